//! Sessions of HTTP/2, by what is told of them.

use lc_daemon::config::{self, HttpContent};
use proptest::prelude::*;

use super::frames::{MOST_BLOCK, PREFACE};
use crate::flows::Direction::{self, Request, Response};
use crate::http::Http;
use crate::http::told::{claims, courses, essence, notes, verdicts};
use crate::matcher::Kind;
use crate::reassembly::End;
use crate::session::script::{Script, Told};
use crate::session::{Content, Course, Exchange};

const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Fields without compression: those of a static table have its numbers.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![];
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend(text.as_bytes());
        }
    }
    block
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "h.example"),
        (":path", path),
        ("user-agent", "test"),
    ];
    frame(1, 0x05, stream, &block(&fields))
}

fn answer(stream: u32, status: &str, is_last: bool) -> Vec<u8> {
    frame(
        1,
        4 | u8::from(is_last),
        stream,
        &block(&[(":status", status)]),
    )
}

fn play(content: HttpContent, play: impl FnOnce(&mut Script<'_, Http>)) -> Vec<Told> {
    let mut http = Http::new(&config::Http {
        content,
        body: Some(1000),
        ..config::Http::default()
    });
    let mut script = Script::new(&mut http, 80);
    play(&mut script);
    std::mem::take(&mut script.told)
}

fn infos(told: &[Told]) -> Vec<(u64, &str)> {
    notes(told)
        .into_iter()
        .map(|note| (note.0, note.3))
        .collect()
}

#[test]
fn streams_are_exchanges_and_may_be_answered_in_any_order() {
    let told = play(HttpContent::default(), |script| {
        script.bytes(Request, PREFACE).bytes(Request, SETTINGS);
        script.bytes(Request, &[get(1, "/one?q"), get(3, "/two")].concat());
        script.bytes(Response, SETTINGS).later(7);
        let data = frame(0, 1, 3, b"two");
        script.bytes(
            Response,
            &[answer(3, "200", false), data, answer(1, "404", true)].concat(),
        );
    });
    assert_eq!(
        infos(&told),
        [
            (0, "GET h.example/one"),
            (1, "GET h.example/two"),
            (1, "200 OK (GET h.example/two)"),
            (0, "404 Not Found (GET h.example/one)")
        ]
    );
    let exchange = Exchange(0);
    assert!(told.contains(&Told::Compare(exchange, Kind::HttpHost, "h.example".into())));
    assert!(told.contains(&Told::Compare(exchange, Kind::HttpUrl, "/one?q".into())));
    let claimed: Vec<_> = claims(&told, Response)
        .into_iter()
        .map(|claim| claim.0)
        .collect();
    assert_eq!(claimed, [None, Some(1), Some(0)]);
    let protocols = |told: &Told| match told {
        Told::Note { protocol, .. } => *protocol == "HTTP2",
        _ => true,
    };
    assert!(told.iter().all(protocols));
}

#[test]
fn exchanges_are_judged_by_their_stream_alone() {
    let content = HttpContent {
        paths: vec!["/wanted".into()],
        statuses: vec![200..=299],
        ..HttpContent::default()
    };
    let told = play(content, |script| {
        script.bytes(Request, PREFACE);
        script.bytes(
            Request,
            &[get(1, "/wanted"), get(3, "/wanted"), get(5, "/other")].concat(),
        );
        script.bytes(
            Response,
            &[answer(3, "500", true), answer(1, "200", true)].concat(),
        );
    });
    assert_eq!(
        verdicts(&told),
        [(2, Content::Fails), (1, Content::Fails), (0, Content::Fits)]
    );
}

#[test]
fn blocks_may_come_in_many_frames_with_padding_and_priority() {
    let fields = block(&[(":method", "GET"), (":path", "/p"), (":authority", "h")]);
    let (one, rest) = fields.split_at(5);
    let (two, three) = rest.split_at(1);
    let first = [&[3, 0, 0, 0, 9, 9][..], one, &[0; 3]].concat();
    let request = [
        frame(1, 0x28, 1, &first),
        frame(9, 0, 1, two),
        frame(9, 0, 1, b""),
        frame(9, 4, 1, three),
        frame(0, 0x08, 1, b"\x02needle\0\0"),
        frame(0, 0x09, 1, b"\x00"),
    ]
    .concat();
    let content = HttpContent {
        keywords: vec!["needle".into()],
        ..HttpContent::default()
    };
    for size in [1, 7, 1000] {
        let told = play(content.clone(), |script| {
            script
                .bytes(Request, PREFACE)
                .pieces(Request, &request, size);
            script.bytes(Response, &answer(1, "204", true));
        });
        assert_eq!(infos(&told)[0], (0, "GET h/p"));
        assert_eq!(verdicts(&told), [(0, Content::Fits)]);
    }
}

#[test]
fn a_flood_of_continuations_is_given_up() {
    let told = play(HttpContent::default(), |script| {
        script
            .bytes(Request, PREFACE)
            .bytes(Request, &frame(1, 0, 1, b""));
        for _ in 0..=MOST_BLOCK / 16_384 {
            script.bytes(Request, &frame(9, 0, 1, &[0; 16_384]));
        }
    });
    assert_eq!(courses(&told), [Course::Rest(None)]);
    assert_eq!(infos(&told), []);
}

#[test]
fn a_connection_may_be_upgraded() {
    let told = play(HttpContent::default(), |script| {
        script.bytes(Request, b"GET /up HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n");
        let upgrade =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
        script.bytes(
            Response,
            &[upgrade, SETTINGS, &answer(1, "200", true)].concat(),
        );
        script.bytes(Request, &[PREFACE, &get(3, "/next")].concat());
        script.bytes(Response, &answer(3, "404", true));
    });
    assert_eq!(
        infos(&told),
        [
            (0, "GET h/up"),
            (0, "101 Switching Protocols (GET h/up)"),
            (0, "200 OK (GET h/up)"),
            (1, "GET h.example/next"),
            (1, "404 Not Found (GET h.example/next)")
        ]
    );
    assert_eq!(courses(&told), []);
}

#[test]
fn what_a_server_pushes_is_an_exchange() {
    let promise = [
        &[0, 0, 0, 2][..],
        &block(&[(":method", "GET"), (":path", "/pushed")]),
    ]
    .concat();
    let told = play(HttpContent::default(), |script| {
        script.bytes(Request, PREFACE).bytes(Request, &get(1, "/"));
        script.bytes(Response, &frame(5, 4, 1, &promise));
        script.bytes(
            Response,
            &[answer(2, "200", true), answer(1, "200", true)].concat(),
        );
    });
    assert_eq!(infos(&told)[2], (1, "200 OK (GET /pushed)"));
}

#[test]
fn interim_responses_and_trailers_are_of_their_stream() {
    let trailers = frame(1, 5, 1, &block(&[("grpc-status", "0")]));
    let told = play(HttpContent::default(), |script| {
        script.bytes(Request, PREFACE).bytes(Request, &get(1, "/"));
        let answers = [answer(1, "103", false), answer(1, "200", false), trailers].concat();
        script.bytes(Response, &answers);
    });
    assert_eq!(infos(&told).len(), 3);
    let claimed: Vec<_> = claims(&told, Response)
        .into_iter()
        .map(|claim| claim.0)
        .collect();
    assert_eq!(claimed, [Some(0)]);
}

#[test]
fn streams_that_are_given_up_are_settled() {
    let content = HttpContent {
        statuses: vec![200..=200],
        ..HttpContent::default()
    };
    let told = play(content, |script| {
        script.bytes(Request, PREFACE).bytes(Request, &get(1, "/"));
        script.bytes(Request, &frame(3, 0, 1, &[0; 4]));
        script.bytes(Request, &get(3, "/"));
        script
            .end(Request, End::Finished)
            .end(Response, End::Finished);
    });
    let settled = told.iter().filter(|told| matches!(told, Told::Settle(_)));
    assert_eq!(settled.count(), 2);
}

#[test]
fn a_gap_is_survived_within_data_only() {
    let survives = |missing| {
        let told = play(HttpContent::default(), |script| {
            script.bytes(Request, PREFACE).bytes(Request, &get(1, "/"));
            let data = frame(0, 0, 1, &[0; 100]);
            script
                .bytes(Response, &answer(1, "200", false))
                .bytes(Response, &data[..50]);
            script.gap(Response, Some(missing));
            script
                .bytes(Request, &get(3, "/"))
                .bytes(Response, &answer(3, "404", true));
        });
        infos(&told).len() == 4
    };
    assert!(survives(59) && !survives(60) && !survives(58));
}

#[test]
fn a_preface_may_come_in_pieces_and_be_none() {
    let told = play(HttpContent::default(), |script| {
        script
            .pieces(Request, PREFACE, 1)
            .bytes(Request, &get(1, "/"));
    });
    assert_eq!(infos(&told).len(), 1);
    let told = play(HttpContent::default(), |script| {
        script.bytes(Request, b"P").bytes(Request, b"R");
        script.bytes(Request, b"OPFIND / HTTP/1.1\r\nHost: h\r\n\r\n");
    });
    assert_eq!(infos(&told), [(0, "PROPFIND h/")]);
}

fn part() -> impl Strategy<Value = (Direction, Vec<u8>)> {
    let request = prop::sample::select(vec![
        get(1, "/1"),
        get(3, "/needle"),
        frame(1, 0, 5, &block(&[(":method", "POST")])),
        frame(9, 4, 5, &block(&[(":path", "/5")])),
        frame(0, 1, 5, b"needle"),
        frame(3, 0, 3, &[0; 4]),
        SETTINGS.to_vec(),
    ]);
    let response = prop::sample::select(vec![
        answer(1, "200", true),
        answer(3, "103", false),
        answer(3, "500", false),
        frame(0, 9, 3, b"\x01needle\0"),
        frame(
            5,
            4,
            1,
            &[&[0, 0, 0, 2][..], &block(&[(":method", "GET")])].concat(),
        ),
        SETTINGS.to_vec(),
    ]);
    let noise = prop::collection::vec(any::<u8>(), 0..20);
    prop_oneof![
        8 => request.prop_map(|bytes| (Request, bytes)),
        8 => response.prop_map(|bytes| (Response, bytes)),
        1 => (any::<bool>(), noise).prop_map(|(side, bytes)| (if side { Request } else { Response }, bytes)),
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
            let told = play(content.clone(), |script| {
                script.bytes(Request, PREFACE);
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
    }
}
