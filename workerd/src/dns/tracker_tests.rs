//! The tracker, as a session sees it.

use lc_daemon::config;
use lc_proto::data::{DnsMetadata, PacketMetadata};
use proptest::prelude::*;
use prost::Message as _;
use shm_layout::counters::WorkerCounter as Counter;

use super::Dns;
use super::codes::kind;
use super::tracker::{MOST_WAITING, State};
use crate::decode::Addr;
use crate::flows::Direction::{Request, Response};
use crate::matcher::{Kind, Kinds};
use crate::reassembly::End;
use crate::session::script::{Script, Told};
use crate::session::{At, Content, Course, Ends, Exchange, Note, Protocol, Tell};

fn tracker() -> Dns {
    Dns::new(&config::Dns::default())
}

fn name(text: &str) -> Vec<u8> {
    let mut name = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        name.push(label.len() as u8);
        name.extend_from_slice(label.as_bytes());
    }
    name.push(0);
    name
}

/// A message with one question, and answers of owner, type and data.
fn message(id: u16, flags: u16, question: (&str, u16), answers: &[(&str, u16, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in [id, flags, 1, answers.len() as u16, 0, 0] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend(name(question.0));
    bytes.extend([question.1.to_be_bytes(), [0, 1]].concat());
    for (owner, kind, data) in answers {
        bytes.extend(name(owner));
        bytes.extend([kind.to_be_bytes(), [0, 1], [0, 0], [0, 60]].concat());
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend_from_slice(data);
    }
    bytes
}

fn query(id: u16, asked: &str) -> Vec<u8> {
    message(id, 0x0100, (asked, kind::A), &[])
}

fn response(id: u16, asked: &str) -> Vec<u8> {
    let answer = (asked, kind::A, &[192, 0, 2, 7][..]);
    message(id, 0x8180, (asked, kind::A), &[answer])
}

/// Behind its length.
fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

fn notes(told: &[Told]) -> Vec<(&str, PacketMetadata)> {
    let mut notes = Vec::new();
    for told in told {
        if let Told::Note {
            info,
            details,
            blocks,
            ..
        } = told
        {
            let metadata = [&details[..], blocks].concat();
            let metadata = PacketMetadata::decode(&metadata[..]).unwrap();
            notes.push((info.as_str(), metadata));
        }
    }
    notes
}

fn blocks(told: &[Told]) -> Vec<DnsMetadata> {
    notes(told)
        .into_iter()
        .filter_map(|(_, metadata)| metadata.dns)
        .collect()
}

fn names(told: &[Told]) -> Vec<String> {
    blocks(told).into_iter().map(|dns| dns.query_name).collect()
}

fn compared(told: &[Told], wanted: Kind) -> Vec<&str> {
    let text = |told| match told {
        &Told::Compare(_, kind, ref text) if kind == wanted => Some(text.as_str()),
        _ => None,
    };
    told.iter().filter_map(text).collect()
}

#[test]
fn a_response_is_told_with_the_time_since_its_query() {
    let mut dns = tracker();
    let mut script = Script::new(&mut dns, 53);
    script
        .datagram(Request, &query(7, "WWW.example.com"))
        .later(3_000)
        .datagram(Request, &query(7, "www.example.com"))
        .later(25)
        .datagram(Response, &response(7, "www.EXAMPLE.com"))
        .datagram(Response, &response(8, "www.example.com"))
        .datagram(Response, &response(7, "other.example.com"));
    let notes = notes(&script.told);
    let infos: Vec<_> = notes.iter().map(|(info, _)| *info).collect();
    assert_eq!(
        infos,
        [
            "A WWW.example.com?",
            "A www.example.com?",
            "A www.EXAMPLE.com -> 192.0.2.7",
            "A www.example.com -> 192.0.2.7",
            "A other.example.com -> 192.0.2.7"
        ]
    );
    let correlated: Vec<_> = notes
        .iter()
        .map(|(_, metadata)| metadata.dns.as_ref().unwrap())
        .map(|dns| (dns.correlated_query, dns.query_response_time_ms))
        .collect();
    let none = (false, 0);
    assert_eq!(correlated, [none, none, (true, 3_025), none, none]);
    let detail = |note: usize, key: &str| notes[note].1.details.get(key).cloned();
    assert_eq!(detail(0, "dns.retransmission"), None);
    assert_eq!(detail(1, "dns.retransmission").as_deref(), Some("1"));
    assert_eq!(detail(2, "dns.query_retransmissions").as_deref(), Some("1"));
    assert_eq!(
        detail(2, "dns.response_time_us").as_deref(),
        Some("3025000")
    );
}

#[test]
fn what_is_too_short_for_dns_is_foreign_unless_dns_was_seen() {
    let mut dns = tracker();
    let mut script = Script::new(&mut dns, 53);
    script.datagram(Request, b"hello");
    assert_eq!(
        script.told,
        [
            Told::Belongs(Request, None, 5),
            Told::Course(Request, Course::Foreign)
        ]
    );
    script.told.clear();
    script
        .datagram(Request, &query(7, "a.example"))
        .datagram(Request, b"hello");
    assert_eq!(script.told.last(), Some(&Told::Belongs(Request, None, 5)));
}

#[test]
fn aliases_are_compared_and_other_targets_only_if_wished() {
    let answers = [
        ("www.example", kind::CNAME, &name("edge.cdn.example")[..]),
        ("www.example", kind::NS, &name("ns.example")),
        (
            "www.example",
            kind::MX,
            &[&[0, 10][..], &name("mail.example")].concat(),
        ),
        (
            "www.example",
            kind::SRV,
            &[&[0; 6][..], &name("srv.example")].concat(),
        ),
        (
            "www.example",
            kind::HTTPS,
            &[&[0, 1][..], &name("https.example")].concat(),
        ),
    ];
    let message = message(1, 0x8180, ("www.example", kind::A), &answers);
    let settings = |match_targets| config::Dns {
        match_targets,
        ..config::Dns::default()
    };
    let compared = |match_targets| {
        let mut dns = Dns::new(&settings(match_targets));
        let mut script = Script::new(&mut dns, 53);
        script.datagram(Response, &message);
        let mut names: Vec<_> = compared(&script.told, Kind::DnsName)
            .into_iter()
            .map(str::to_owned)
            .collect();
        names.dedup();
        names.retain(|name| name != "www.example");
        names
    };
    assert_eq!(compared(false), ["edge.cdn.example"]);
    assert_eq!(
        compared(true),
        [
            "edge.cdn.example",
            "ns.example",
            "mail.example",
            "srv.example",
            "https.example"
        ]
    );
}

#[test]
fn telephone_numbers_in_names_are_compared_as_users() {
    let mut dns = tracker();
    let mut script = Script::new(&mut dns, 53);
    let asked = ("3.8.0.0.6.9.2.3.6.1.4.4.e164.arpa", kind::NAPTR);
    script.datagram(Request, &message(1, 0x0100, asked, &[]));
    assert_eq!(compared(&script.told, Kind::SipUser), ["+441632960083"]);
    assert_eq!(compared(&script.told, Kind::DnsName), [asked.0]);
    let (_, metadata) = &notes(&script.told)[0];
    assert_eq!(metadata.details["dns.e164"], "+441632960083");
}

#[test]
fn extensions_are_told_in_the_details() {
    let mut bytes = query(1, "www.example");
    bytes[11] = 1;
    // Size 1232, DO, client subnet 198.51.100.0/24, cookie, an unknown option.
    bytes.extend(b"\0\0\x29\x04\xd0\x01\0\x80\0\0\x1d");
    bytes.extend(b"\0\x08\0\x07\0\x01\x18\0\xc6\x33\x64");
    bytes.extend(b"\0\x0a\0\x08abcdefgh\xff\xfe\0\x02xy");
    let mut dns = tracker();
    let mut script = Script::new(&mut dns, 53);
    script.datagram(Request, &bytes);
    let (_, metadata) = &notes(&script.told)[0];
    assert_eq!(
        metadata.dns.as_ref().unwrap().response_code,
        "RCODE16",
        "the upper bits of the code"
    );
    for (key, value) in [
        ("dns.edns_udp_size", "1232"),
        ("dns.dnssec_ok", "true"),
        ("dns.edns_options", "client-subnet,cookie,65534"),
        ("dns.client_subnet", "198.51.100.0/24"),
    ] {
        assert_eq!(
            metadata.details.get(key).map(String::as_str),
            Some(value),
            "{key}"
        );
    }
}

#[test]
fn tunnels_are_scored_unless_the_operator_has_switched_it_off_or_the_service_is_known() {
    let score = |settings: &config::Dns, domain: &str| {
        let mut dns = Dns::new(settings);
        let mut script = Script::new(&mut dns, 53);
        for n in 0..150 {
            let asked = format!("{n}x7q9zk2m4w8v1b6n3.t.{domain}");
            script.datagram(Request, &message(n, 0x0100, (&asked, kind::TXT), &[]));
        }
        let last = blocks(&script.told).pop().unwrap();
        (last.tunneling_score, last.entropy_score)
    };
    let on = config::Dns::default();
    let off = config::Dns {
        detect_tunneling: false,
        ..on.clone()
    };
    let all = config::Dns {
        allow_known_services: false,
        ..on.clone()
    };
    let own = config::Dns {
        allowed_domains: vec!["evil.example".into()],
        ..on.clone()
    };
    assert!((score(&on, "evil.example").0 - 0.874173).abs() < 1e-6);
    assert_eq!(score(&off, "evil.example"), (0.0, 0.0));
    assert_eq!(score(&own, "evil.example").0, 0.0);
    assert_eq!(score(&on, "zen.spamhaus.org").0, 0.0);
    assert!(score(&on, "zen.spamhaus.org").1 > 4.0);
    assert!(score(&all, "zen.spamhaus.org").0 > 0.8);
}

#[test]
fn messages_of_a_connection_are_exchanges_of_their_own() {
    let queries: Vec<_> = ["a.example", "b.example", "c.example"]
        .iter()
        .enumerate()
        .map(|(n, name)| framed(&query(n as u16, name)))
        .collect();
    let mut dns = tracker();
    let mut script = Script::new(&mut dns, 53);
    script.bytes(Request, &queries.concat());
    assert_eq!(names(&script.told), ["a.example", "b.example", "c.example"]);
    let ends: Vec<_> = script
        .told
        .iter()
        .filter_map(|told| match told {
            Told::Belongs(_, Some(exchange), end) => Some((exchange.0, *end)),
            _ => None,
        })
        .collect();
    let len = queries[0].len() as u64;
    assert_eq!(ends, [(0, len), (1, 2 * len), (2, 3 * len)]);
    script
        .later(5)
        .bytes(Response, &framed(&response(1, "b.example")));
    let last = blocks(&script.told).pop().unwrap();
    assert_eq!(
        (last.correlated_query, last.query_response_time_ms),
        (true, 5)
    );
}

#[test]
fn behind_a_gap_messages_are_found_again() {
    let messages: Vec<_> = (0..4)
        .map(|n| framed(&query(n, &format!("n{n}.example"))))
        .collect();
    let len = messages[0].len();
    let stream = messages.concat();
    // The gap ends within the first message, within the second, at the third, or cuts the second and the third.
    for (missing, expected) in [
        (5..len - 3, vec!["n1.example", "n2.example", "n3.example"]),
        (5..len + 3, vec!["n2.example", "n3.example"]),
        (5..2 * len, vec!["n2.example", "n3.example"]),
        (len + 20..2 * len + 1, vec!["n0.example", "n3.example"]),
        (
            len + 20..2 * len - 1,
            vec!["n0.example", "n2.example", "n3.example"],
        ),
    ] {
        let mut dns = tracker();
        let mut script = Script::new(&mut dns, 53);
        script
            .bytes(Request, &stream[..missing.start])
            .gap(Request, Some(missing.len() as u64))
            .bytes(Request, &stream[missing.end..])
            .end(Request, End::Finished);
        // What is cut is compared and not told of.
        assert_eq!(names(&script.told), expected, "{missing:?}");
        let count = |is: fn(&Told) -> bool| script.told.iter().filter(|told| is(told)).count();
        assert_eq!(
            count(|told| matches!(told, Told::Begin(_))),
            count(|told| matches!(told, Told::Settle(_)))
        );
    }
}

#[test]
fn a_connection_is_picked_up_in_its_middle() {
    let message = framed(&response(1, "first.example"));
    let rest = [&message[9..], &framed(&response(2, "second.example"))].concat();
    for size in [1, 7, rest.len()] {
        let mut dns = tracker();
        let mut script = Script::new(&mut dns, 53);
        script.gap(Response, None).pieces(Response, &rest, size);
        assert_eq!(names(&script.told), ["second.example"], "{size}");
    }
}

#[test]
fn a_stream_that_is_not_dns_is_given_up() {
    let mut dns = tracker();
    let mut script = Script::new(&mut dns, 53);
    for _ in 0..70 {
        script.bytes(Request, &[b'x'; 1024]);
    }
    assert!(
        script
            .told
            .contains(&Told::Course(Request, Course::Foreign))
    );
    assert!(
        script
            .told
            .iter()
            .all(|told| matches!(told, Told::Belongs(_, None, _) | Told::Course(..)))
    );
}

#[test]
fn parts_of_messages_have_a_bound_in_all() {
    let mut dns = tracker();
    let part = [&[0xff, 0xff][..], &query(1, "a.example"), &[0; 60_000]].concat();
    let mut most = 0;
    let mut states = Vec::new();
    for _ in 0..MOST_WAITING / part.len() + 50 {
        let mut script = Script::new(&mut dns, 53);
        script.bytes(Request, &part);
        states.push(script.into_state());
        most = most.max(dns.waiting());
    }
    assert!((MOST_WAITING..MOST_WAITING + (1 << 20)).contains(&most));
    drop(states);
    assert_eq!(dns.waiting(), 0);
}

proptest! {
    #[test]
    fn any_datagram_is_taken(bytes in prop::collection::vec(any::<u8>(), 0..200), flags: u16) {
        let mut dns = tracker();
        let mut script = Script::new(&mut dns, 53);
        script.datagram(Request, &bytes);
        // The same as a message with possible counts.
        let mut bytes = bytes;
        if bytes.len() >= 12 {
            bytes[2..4].copy_from_slice(&flags.to_be_bytes());
            bytes[4..12].copy_from_slice(&[0, 1, 0, 3, 0, 1, 0, 1]);
        }
        script.datagram(Response, &bytes);
        notes(&script.told);
    }

    #[test]
    fn how_a_stream_is_cut_makes_no_difference(
        names in prop::collection::vec("[a-z]{1,20}(\\.[a-z]{1,9}){0,3}", 1..6),
        size in 1..80_usize,
        junk in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut stream: Vec<u8> = names.iter().flat_map(|name| framed(&query(1, name))).collect();
        stream.extend(junk);
        let play = |size| {
            let mut dns = tracker();
            let mut script = Script::new(&mut dns, 53);
            script.pieces(Request, &stream, size).end(Request, End::Finished);
            let mut told = std::mem::take(&mut script.told);
            told.retain(|told| !matches!(told, Told::Belongs(_, None, _)));
            told
        };
        prop_assert_eq!(play(size), play(stream.len()));
    }

    #[test]
    fn any_stream_is_taken(
        pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..60), prop::option::of(0..90_u64)), 0..20),
    ) {
        let mut dns = tracker();
        let mut script = Script::new(&mut dns, 53);
        for (bytes, gap) in &pieces {
            script.bytes(Request, bytes);
            if let Some(gap) = gap {
                script.gap(Request, Some(*gap));
            }
            script.bytes(Request, &framed(&query(1, "a.example")));
        }
        script.end(Request, End::Reset);
        let begun = script.told.iter().filter(|told| matches!(told, Told::Begin(_))).count();
        let settled = script.told.iter().filter(|told| matches!(told, Told::Settle(_))).count();
        prop_assert_eq!(begun, settled);
    }
}

/// Hears everything, and keeps nothing.
struct Deaf(u64);

impl Tell for Deaf {
    fn begin(&mut self) -> Exchange {
        self.0 += 1;
        Exchange(self.0)
    }

    fn belongs(&mut self, _: Option<Exchange>, _: u64) {}

    fn wanted(&self) -> Kinds {
        Kinds::ALL
    }

    fn compare(&mut self, _: Exchange, _: Kind, _: &[u8]) {}

    fn content(&mut self, _: Exchange, _: Content) {}

    fn note(&mut self, _: Exchange, _: u64, _: Note<'_>) {}

    fn about(&mut self, _: Exchange, _: Note<'_>) {}

    fn count(&mut self, _: Counter) {}

    fn settle(&mut self, _: Exchange) {}
}

#[test]
fn nothing_is_allocated_per_message() {
    let mut dns = tracker();
    let messages: Vec<_> = (0..200)
        .flat_map(|n| {
            let name = format!("host{n}.d{}.example", n % 7);
            [query(n, &name), response(n, &name)]
        })
        .collect();
    let (client, server) = (Addr::V4(0xc000_0201), Addr::V4(0xc000_0202));
    let ends = Ends {
        client: (client, 40_000),
        server: (server, 53),
    };
    let mut play = || {
        let (mut state, mut tell) = (State::default(), Deaf(0));
        for (n, message) in messages.iter().enumerate() {
            let at = At {
                direction: if n % 2 == 0 { Request } else { Response },
                ends,
                time_ns: n as u64,
            };
            assert_eq!(
                dns.datagram(&at, &mut state, message, &mut tell),
                Course::Follow
            );
        }
    };
    play();
    assert_eq!(allocation_counter::measure(play).count_total, 0);
}
