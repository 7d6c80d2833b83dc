//! Sessions of HTTP/1, by what is told of them.

use lc_daemon::config::{self, HttpContent};
use lc_proto::data::PacketMetadata;
use proptest::prelude::*;
use prost::Message;

use super::told::{claims, courses, essence, notes, verdicts};
use super::tracker::Http;
use crate::flows::Direction::{self, Request, Response};
use crate::matcher::Kind;
use crate::reassembly::End;
use crate::session::script::{Script, Told};
use crate::session::{Content, Course, Exchange};

const ID: [Exchange; 4] = [Exchange(0), Exchange(1), Exchange(2), Exchange(3)];

fn http(content: HttpContent) -> Http {
    Http::new(&config::Http {
        content,
        body: Some(1000),
        ..config::Http::default()
    })
}

fn play(play: impl FnOnce(&mut Script<'_, Http>)) -> Vec<Told> {
    play_with(HttpContent::default(), play)
}

fn play_with(content: HttpContent, play: impl FnOnce(&mut Script<'_, Http>)) -> Vec<Told> {
    let mut http = http(content);
    let mut script = Script::new(&mut http, 80);
    play(&mut script);
    std::mem::take(&mut script.told)
}

fn details(told: &[Told]) -> Vec<Vec<(String, String)>> {
    let of = |told: &Told| match told {
        Told::Note { details, .. } => {
            let metadata = PacketMetadata::decode(&details[..]).unwrap();
            Some(metadata.details.into_iter().collect())
        }
        _ => None,
    };
    told.iter().filter_map(of).collect()
}

const GET: &[u8] = b"GET /a?b HTTP/1.1\r\nHost: h.example\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[test]
fn a_response_has_the_host_and_the_path_of_its_request_and_the_time_between() {
    let told = play(|script| {
        script.bytes(Request, GET);
        script.later(12).bytes(Response, OK);
    });
    let response = details(&told).pop().unwrap();
    let expected = [
        ("http.content_length", "2"),
        ("http.host", "h.example"),
        ("http.method", "GET"),
        ("http.path", "/a"),
        ("http.reason", "OK"),
        ("http.response_time_ms", "12"),
        ("http.status", "200"),
        ("http.type", "response"),
        ("http.version", "HTTP/1.1"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(response, expected);
    assert_eq!(
        notes(&told),
        [
            (0, Request, 0, "GET h.example/a"),
            (0, Response, 0, "200 OK (GET h.example/a)")
        ]
    );
    assert!(told.contains(&Told::Compare(ID[0], Kind::HttpHost, "h.example".into())));
    assert!(told.contains(&Told::Compare(ID[0], Kind::HttpUrl, "/a?b".into())));
    assert_eq!(claims(&told, Request), [(Some(0), GET.len() as u64)]);
    assert_eq!(claims(&told, Response), [(Some(0), OK.len() as u64)]);
}

#[test]
fn credentials_are_not_told() {
    let request = b"GET http://user:secret@h/x HTTP/1.1\r\nHost: h\r\nAuthorization: Basic c2VjcmV0\r\nCookie: secret\r\n\r\n";
    let told = play(|script| {
        script.bytes(Request, request);
        script.bytes(
            Response,
            b"HTTP/1.1 200 OK\r\nSet-Cookie: secret\r\nContent-Length: 0\r\n\r\n",
        );
    });
    let text = format!("{:?} {:?}", details(&told), notes(&told));
    assert!(
        !text.contains("secret") && !text.contains("c2VjcmV0"),
        "{text}"
    );
    let has_auth = ("http.has_auth".to_owned(), "true".to_owned());
    assert!(details(&told)[0].contains(&has_auth));
    let path = ("http.path".to_owned(), "http://h/x".to_owned());
    assert!(details(&told)[0].contains(&path));
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let told = play(|script| {
        for path in ["1", "2", "3"] {
            let request = format!("GET /{path} HTTP/1.1\r\nHost: h\r\n\r\n");
            script.bytes(Request, request.as_bytes());
        }
        let head = b"HTTP/1.1 204 No Content\r\n\r\n";
        script.bytes(Response, &[OK, head, OK].concat());
    });
    let lines: Vec<_> = notes(&told)
        .into_iter()
        .map(|note| (note.0, note.3))
        .collect();
    assert_eq!(
        lines[3..],
        [
            (0, "200 OK (GET h/1)"),
            (1, "204 No Content (GET h/2)"),
            (2, "200 OK (GET h/3)")
        ]
    );
    assert_eq!(
        claims(&told, Response),
        [(Some(0), 40), (Some(1), 67), (Some(2), 107)]
    );
}

#[test]
fn requests_beyond_the_bound_are_judged_alone_and_order_is_kept() {
    let told = play(|script| {
        for n in 0..110 {
            script.bytes(
                Request,
                format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes(),
            );
        }
        for _ in 0..110 {
            script.bytes(Response, OK);
        }
        script.bytes(Request, b"GET /last HTTP/1.1\r\nHost: h\r\n\r\n");
        script.bytes(Response, OK);
    });
    let notes = notes(&told);
    assert_eq!(notes[209].3, "200 OK (GET h/99)");
    assert_eq!(notes[210].3, "200 OK");
    assert_eq!(notes[219].3, "200 OK");
    assert_eq!(notes.last().unwrap().3, "200 OK (GET h/last)");
}

#[test]
fn bodies_end_where_their_framing_says() {
    let head = "HTTP/1.1 200 OK\r\n";
    for (request, response) in [
        ("GET", format!("{head}Content-Length: 5\r\n\r\nHTTP/")),
        ("GET", format!("{head}Transfer-Encoding: gzip, chunked\r\nContent-Length: 1\r\n\r\n3;ext=\"a\"\r\nabc\r\n0A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n")),
        ("GET", format!("{head}Transfer-Encoding: chunked\n\n3\nabc\n0\n\n")),
        ("HEAD", format!("{head}Content-Length: 500\r\n\r\n")),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n".to_owned()),
        ("GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n".to_owned()),
        ("POST", format!("{head}Content-Length: 2, 2\r\nContent-Length: 2\r\n\r\nab")),
    ] {
        let told = play(|script| {
            let first = format!("{request} /1 HTTP/1.1\r\nHost: h\r\n\r\n");
            script.bytes(Request, first.as_bytes()).bytes(Request, GET);
            script.bytes(Response, response.as_bytes()).bytes(Response, OK);
        });
        let end = response.len() as u64;
        let both = [(Some(0), end), (Some(1), end + OK.len() as u64)];
        assert_eq!(claims(&told, Response), both, "{response}");
    }
}

#[test]
fn a_body_without_length_goes_to_the_end() {
    let told = play(|script| {
        script.bytes(Request, GET);
        script.bytes(Response, b"HTTP/1.0 200 OK\r\n\r\nHTTP/1.0 200 OK\r\n\r\n");
        script.gap(Response, Some(100));
        script.bytes(Response, b"rest").end(Response, End::Finished);
    });
    assert_eq!(claims(&told, Response), [(Some(0), 142)]);
    assert_eq!(notes(&told).len(), 2);
}

#[test]
fn a_body_that_was_not_asked_for_after_all_is_not_waited_for() {
    let post =
        b"POST /1 HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 500\r\n\r\n";
    let refused = b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n";
    let told = play(|script| {
        script.bytes(Request, post).bytes(Response, refused);
        script.bytes(Request, GET).bytes(Response, OK);
    });
    assert_eq!(notes(&told)[3].3, "200 OK (GET h.example/a)");
    let told = play(|script| {
        script.bytes(Request, post);
        script.bytes(Response, b"HTTP/1.1 100 Continue\r\n\r\n");
        script.bytes(Request, &[b'x'; 500]).bytes(Response, OK);
    });
    assert_eq!(claims(&told, Request), [(Some(0), post.len() as u64 + 500)]);
    assert_eq!(notes(&told)[2].3, "200 OK (POST h/1)");
}

#[test]
fn a_websocket_is_of_the_exchange_that_opens_it() {
    let told = play(|script| {
        script.bytes(
            Request,
            b"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        );
        script.bytes(
            Response,
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n\r\n\x81\x01a",
        );
    });
    assert_eq!(courses(&told), [Course::RestOfBoth(Some(ID[0]))]);
    assert!(told.contains(&Told::Settle(ID[0])));
}

#[test]
fn what_is_tunnelled_is_a_session_of_its_own() {
    let connect = b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n";
    let established = b"HTTP/1.1 200 Connection established\r\nContent-Length: 9\r\n\r\n";
    let told = play(|script| {
        script.bytes(Request, connect);
        script.bytes(Response, &[&established[..], b"\x16\x03"].concat());
    });
    let end = established.len() as u64;
    assert_eq!(courses(&told), [Course::Becomes(end, ID[0])]);
    assert_eq!(claims(&told, Response), [(Some(0), end)]);
    // The answer was not seen.
    let told = play(|script| {
        script.bytes(Request, connect);
        script.bytes(Request, b"\x16\x03\x01");
    });
    let end = connect.len() as u64;
    assert_eq!(courses(&told), [Course::Becomes(end, ID[0])]);
    // A proxy that asks for a password first.
    let told = play(|script| {
        script.bytes(Request, connect);
        script.bytes(Response, b"HTTP/1.1 407 x\r\nContent-Length: 2\r\n\r\nno");
        script.bytes(Request, connect);
        script.bytes(Response, established);
    });
    let end = 39 + established.len() as u64;
    assert_eq!(courses(&told), [Course::Becomes(end, ID[1])]);
}

#[test]
fn another_protocol_after_an_upgrade_is_a_session_of_its_own() {
    let told = play(|script| {
        script.bytes(
            Request,
            b"POST /exec HTTP/1.1\r\nHost: h\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n{}",
        );
        script.bytes(Response, b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n");
    });
    assert!(matches!(courses(&told)[..], [Course::Becomes(_, id)] if id == ID[0]));
}

#[test]
fn behind_a_gap_the_next_head_is_found_anywhere() {
    let junk = b"GET is no request HTTP/2\r\n GET /x HTT";
    let told = play(|script| {
        script.bytes(Request, GET).bytes(Response, &OK[..20]);
        script.gap(Request, Some(10)).gap(Response, Some(5));
        script.bytes(Request, &[junk, GET].concat());
        script.bytes(Response, &[b"HTTP/1.1 is no status", OK].concat());
    });
    let first = GET.len() as u64;
    let behind = first + 10 + junk.len() as u64;
    assert_eq!(
        claims(&told, Request),
        [(Some(0), first), (None, behind), (Some(1), behind + first)]
    );
    assert_eq!(claims(&told, Response), [(None, 46), (Some(1), 86)]);
    assert_eq!(notes(&told)[2].3, "200 OK (GET h.example/a)");
}

#[test]
fn a_gap_within_a_body_of_known_length_is_passed_over() {
    let told = play(|script| {
        script.bytes(Request, GET);
        script.bytes(Response, b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nab");
        script.gap(Response, Some(48));
        script.bytes(Request, GET).bytes(Response, OK);
    });
    assert_eq!(
        claims(&told, Response),
        [(Some(0), 89), (Some(1), 89 + OK.len() as u64)]
    );
}

#[test]
fn a_lost_response_does_not_shift_those_behind_it() {
    let told = play(|script| {
        script.bytes(Request, b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n");
        script.gap(Response, Some(40));
        script.bytes(Request, b"GET /2 HTTP/1.1\r\nHost: h\r\n\r\n");
        script.bytes(Response, OK);
    });
    assert_eq!(notes(&told)[2], (1, Response, 40, "200 OK (GET h/2)"));
    assert!(told.contains(&Told::Settle(ID[0])));
}

#[test]
fn a_session_that_is_picked_up_in_its_middle_is_followed_from_its_next_head() {
    let told = play(|script| {
        script
            .gap(Response, None)
            .bytes(Response, b"rest of a body")
            .bytes(Response, OK);
        script
            .gap(Request, None)
            .bytes(Request, GET)
            .bytes(Response, OK);
    });
    let lines: Vec<_> = notes(&told).into_iter().map(|note| note.3).collect();
    let expected = ["200 OK", "GET h.example/a", "200 OK (GET h.example/a)"];
    assert_eq!(lines, expected);
}

#[test]
fn who_asks_is_seen_where_the_start_is_not() {
    let told = play(|script| {
        script.gap(Request, None).bytes(Request, b"rest of a body");
        script.bytes(Request, OK);
        script.gap(Response, None).bytes(Response, GET);
        script.bytes(Request, OK);
    });
    let lines: Vec<_> = notes(&told)
        .into_iter()
        .map(|note| (note.1, note.3))
        .collect();
    let expected = [
        (Request, "200 OK"),
        (Response, "GET h.example/a"),
        (Request, "200 OK (GET h.example/a)"),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn what_comes_before_the_first_message_is_passed_over() {
    let told = play(|script| {
        script
            .bytes(Request, b"\x05\x01\0")
            .bytes(Response, b"\x05\0");
        script.bytes(Request, GET).bytes(Response, OK);
    });
    assert_eq!(notes(&told)[1].3, "200 OK (GET h.example/a)");
    assert_eq!(
        claims(&told, Request),
        [(None, 3), (Some(0), 3 + GET.len() as u64)]
    );
}

#[test]
fn a_proxy_may_say_whose_connection_it_is() {
    for header in [
        &b"PROXY TCP4 192.0.2.1 192.0.2.2 4000 443\r\n"[..],
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x03abc",
    ] {
        for size in [1, 3, 20, 1000] {
            let told = play(|script| {
                script.pieces(Request, &[header, GET].concat(), size);
            });
            let start = header.len() as u64;
            assert_eq!(notes(&told), [(0, Request, start, "GET h.example/a")]);
        }
    }
}

#[test]
fn a_request_of_the_first_version_is_answered_until_the_end() {
    let told = play(|script| {
        script.bytes(Request, b"GET /old\r\n");
        script
            .bytes(Response, b"<p>HTTP/1.1 200 OK\r\n\r\n")
            .end(Response, End::Finished);
    });
    assert_eq!(claims(&told, Response), [(Some(0), 22)]);
    assert_eq!(notes(&told), [(0, Request, 0, "GET /old")]);
}

fn wants_status(statuses: std::ops::RangeInclusive<u16>) -> HttpContent {
    HttpContent {
        statuses: vec![statuses],
        hosts: vec!["h.example".into()],
        ..HttpContent::default()
    }
}

#[test]
fn an_exchange_is_judged_as_a_whole() {
    let exchange = |content| {
        let told = play_with(content, |script| {
            script.bytes(Request, GET).bytes(Response, OK);
        });
        let settle = told
            .iter()
            .position(|told| *told == Told::Settle(ID[0]))
            .unwrap();
        let content = told
            .iter()
            .position(|told| matches!(told, Told::Content(..)));
        assert!(content.unwrap() < settle);
        verdicts(&told)
    };
    assert_eq!(exchange(wants_status(200..=299)), [(0, Content::Fits)]);
    assert_eq!(exchange(wants_status(500..=599)), [(0, Content::Fails)]);
    let other_host = HttpContent {
        hosts: vec!["other".into()],
        ..wants_status(200..=299)
    };
    assert_eq!(exchange(other_host), [(0, Content::Fails)]);
}

#[test]
fn what_is_known_is_told_at_once() {
    let content = HttpContent {
        hosts: vec!["other".into()],
        statuses: vec![200..=200],
        ..HttpContent::default()
    };
    let told = play_with(content, |script| {
        script.bytes(Request, GET);
    });
    assert_eq!(verdicts(&told), [(0, Content::Fails)]);
    let told = play_with(wants_status(200..=200), |script| {
        script.bytes(Request, GET);
    });
    assert_eq!(verdicts(&told), []);
    assert!(!told.contains(&Told::Settle(ID[0])));
}

#[test]
fn keywords_are_found_in_bodies_across_chunks_and_compression() {
    use std::io::Write;
    let content = HttpContent {
        keywords: vec!["Needle".into()],
        ..HttpContent::default()
    };
    let text = b"hay hay neEdle hay";
    let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
    gzip.write_all(text).unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(vec![], flate2::Compression::best());
    zlib.write_all(text).unwrap();
    let mut deflate = flate2::write::DeflateEncoder::new(vec![], flate2::Compression::best());
    deflate.write_all(text).unwrap();
    // A metablock of 18 bytes that is not compressed, and an empty last one (RFC 7932 section 9.2).
    let brotli = [&[0x10, 0x01, 0x10][..], text, &[0x03]].concat();
    for (coding, body) in [
        ("identity", text.to_vec()),
        ("gzip", gzip.finish().unwrap()),
        ("deflate", zlib.finish().unwrap()),
        ("deflate", deflate.finish().unwrap()),
        ("br", brotli),
    ] {
        let (one, other) = body.split_at(body.len() / 2);
        let mut response = format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        .into_bytes();
        for part in [one, other] {
            response.extend(format!("{:x}\r\n", part.len()).as_bytes());
            response.extend(part);
            response.extend(b"\r\n");
        }
        response.extend(b"0\r\n\r\n");
        let told = play_with(content.clone(), |script| {
            script.bytes(Request, GET).pieces(Response, &response, 7);
        });
        assert_eq!(verdicts(&told), [(0, Content::Fits)], "{coding}");
    }
    let told = play_with(content, |script| {
        script.bytes(Request, GET).bytes(Response, OK);
    });
    assert_eq!(verdicts(&told), [(0, Content::Fails)]);
}

#[test]
fn exchanges_without_an_answer_are_settled_when_the_connection_ends() {
    let told = play_with(wants_status(200..=200), |script| {
        script.bytes(Request, GET);
        script.end(Request, End::Finished);
        assert_eq!(verdicts(&script.told), []);
        script.end(Response, End::Reset);
    });
    assert_eq!(verdicts(&told), [(0, Content::Fits)], "as far as it goes");
    assert!(told.contains(&Told::Settle(ID[0])));
}

/// A part of a conversation.
fn part() -> impl Strategy<Value = (Direction, Vec<u8>)> {
    let request = prop::sample::select(vec![
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
        b"\r\nPOST /y?z HTTP/1.1\nTransfer-Encoding: chunked\n\n2;x\nab\n0\nT: t\n\n",
        b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\r\n1\r\na\0 GET /d HTTP/1.1\r\n\r\n",
        b"POST /e HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\r\n\r\n",
        b"HEAD /h HTTP/1.0\r\nX: needle\r\n\r\n",
        b"CONNECT h:1 HTTP/1.1\r\n\r\n",
        b"GET /u HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
        b"nonsense \r\n\0\xff GET x",
        b" GET /found HTTP/1.1\r\nA: b\r\n\r\n",
    ]);
    let response = prop::sample::select(vec![
        &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"[..],
        b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.0 500 x\r\n\r\nneedle",
        b"nonsense HTTP/ HTTP/1.",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ]);
    prop_oneof![
        request.prop_map(|bytes| (Request, bytes.to_vec())),
        response.prop_map(|bytes| (Response, bytes.to_vec())),
        (any::<bool>(), prop::collection::vec(any::<u8>(), 0..30))
            .prop_map(|(side, bytes)| { (if side { Request } else { Response }, bytes) }),
    ]
}

proptest! {
    #[test]
    fn how_streams_are_cut_makes_no_difference(
        parts in prop::collection::vec(part(), 0..12),
        size in 1..20usize,
    ) {
        let content = HttpContent {
            keywords: vec!["needle".into()],
            ..HttpContent::default()
        };
        let run = |size: usize| {
            let told = play_with(content.clone(), |script| {
                for (direction, bytes) in &parts {
                    for piece in bytes.chunks(size) {
                        script.bytes(*direction, piece);
                        // What follows is not the tracker's any more.
                        if !courses(&script.told).is_empty() {
                            return;
                        }
                    }
                }
                script.end(Request, End::Finished).end(Response, End::Finished);
            });
            essence(&told)
        };
        let (whole, cut) = (run(usize::MAX), run(size));
        prop_assert_eq!(whole.0, cut.0);
        if courses(&run(size).0).is_empty() {
            prop_assert_eq!(whole.1, cut.1);
        }
    }

    #[test]
    fn any_bytes_and_gaps_are_accepted(
        parts in prop::collection::vec((part(), prop::option::of(0..40u64), any::<bool>()), 0..12),
    ) {
        play(|script| {
            for ((direction, bytes), gap, has_gap) in &parts {
                if !bytes.is_empty() {
                    script.bytes(*direction, bytes);
                }
                if *has_gap {
                    script.gap(*direction, *gap);
                }
            }
        });
    }
}
