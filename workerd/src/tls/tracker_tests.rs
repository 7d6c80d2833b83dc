//! Connections as they are told.

use super::row_tests::{bytes, compared, details};
use super::{Extent, Tls};
use crate::flows::Direction::{Request, Response};
use crate::matcher::Kind;
use crate::reassembly::End;
use crate::session::script::{Script, Told};
use crate::session::{Content, Course, Exchange};
use proptest::prelude::*;

/// RFC 8448 section 3.
const CLIENT: &str = "16030100c4010000c00303cb34ecb1e78163ba1c38c6dacb196a6dffa21a8d9912ec18a2ef6283024dece7000006130113031302010000910000000b0009000006736572766572ff01000100000a00140012001d0017001800190100010101020103010400230000003300260024001d002099381de560e4bd43d23d8e435a7dbafeb3c06e51c13cae4d5413691e529aaf2c002b0003020304000d0020001e040305030603020308040805080604010501060102010402050206020202002d00020101001c00024001";
const SERVER: &str = "160303005a020000560303a6af06a4121860dc5e6e60249cd34c95930c8ac5cb1434dac155772ed3e2692800130100002e00330024001d0020c9828876112095fe66762bdbf7c672e156d6cc253b833df1dd69b1b04e751f0f002b00020304";
/// TLS 1.2, without extensions but the last.
const OLD_SERVER: &str = "160303003b020000370303202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f00c02f00000fff01000100000b0002010000230000";
const CHANGE: &str = "140303000101";
const DATA: &str = "1703030004deadbeef";
const FIRST: Exchange = Exchange(0);
const REST: Exchange = Exchange(1);

fn settled(told: &[Told]) -> bool {
    told.contains(&Told::Settle(FIRST))
}

fn courses(told: &[Told]) -> Vec<Told> {
    let is_course = |told: &&Told| matches!(told, Told::Course(..));
    told.iter().filter(is_course).cloned().collect()
}

#[test]
fn a_connection_is_settled_by_the_answer_and_goes_on_as_a_whole() {
    let mut tls = Tls::new(Extent::Full);
    let mut script = Script::new(&mut tls, 443);
    script.bytes(Request, &bytes(CLIENT));
    assert_eq!(script.told[0], Told::Begin(FIRST));
    assert!(
        script
            .told
            .contains(&Told::Belongs(Request, Some(FIRST), 201))
    );
    assert!(!settled(&script.told));
    script.later(12).bytes(Response, &bytes(SERVER));
    assert!(settled(&script.told));
    assert_eq!(compared(&script.told, Kind::TlsJa3s).len(), 2);
    assert_eq!(details(&script.told)[1]["tls.handshake_ms"], "12.000");
    script.bytes(Request, &bytes(CHANGE));
    let rest = Course::Rest(Some(FIRST));
    let both = Course::RestOfBoth(Some(FIRST));
    assert_eq!(
        courses(&script.told),
        [Told::Course(Response, rest), Told::Course(Request, both)]
    );
}

#[test]
fn the_handshake_alone_can_be_wanted() {
    let mut tls = Tls::new(Extent::Handshake);
    let mut script = Script::new(&mut tls, 443);
    let finish = [bytes(CHANGE), bytes(DATA), bytes(DATA)].concat();
    script
        .bytes(Request, &bytes(CLIENT))
        .bytes(Response, &[bytes(SERVER), bytes(DATA)].concat())
        .bytes(Request, &finish);
    let told = &script.told;
    assert_eq!(
        told[..2],
        [Told::Begin(FIRST), Told::Content(FIRST, Content::Fits)]
    );
    // The client's first encrypted record finishes the handshake; the next one is data.
    assert!(told.contains(&Told::Belongs(Request, Some(FIRST), 201 + 6 + 9)));
    assert!(told.contains(&Told::Content(REST, Content::Fails)));
    assert_eq!(
        courses(told),
        [Told::Course(Request, Course::Rest(Some(REST)))]
    );
    script.bytes(Response, &bytes(DATA));
    assert_eq!(
        courses(&script.told)[1],
        Told::Course(Response, Course::Rest(Some(REST)))
    );
}

#[test]
fn data_show_themselves_in_older_versions() {
    let mut tls = Tls::new(Extent::Handshake);
    let mut script = Script::new(&mut tls, 443);
    let finished = bytes("1603030004deadbeef");
    script
        .bytes(Request, &bytes(CLIENT))
        .bytes(Response, &bytes(OLD_SERVER))
        .bytes(Request, &[&bytes(CHANGE)[..], &finished].concat())
        .bytes(Response, &[&bytes(CHANGE)[..], &finished].concat());
    assert!(courses(&script.told).is_empty());
    script.bytes(Response, &[&finished[..], &bytes(DATA)].concat());
    assert!(
        script
            .told
            .contains(&Told::Belongs(Response, Some(FIRST), 64 + 6 + 9 + 9))
    );
    assert_eq!(
        courses(&script.told),
        [Told::Course(Response, Course::Rest(Some(REST)))]
    );
}

#[test]
fn who_goes_on_was_answered() {
    let mut tls = Tls::new(Extent::Full);
    let mut script = Script::new(&mut tls, 443);
    script
        .bytes(Request, &bytes(CLIENT))
        .bytes(Request, &bytes(DATA));
    assert!(settled(&script.told));

    let mut script = Script::new(&mut tls, 443);
    script.bytes(Response, &bytes(SERVER));
    assert!(!settled(&script.told));
    script.bytes(Response, &bytes(DATA));
    assert!(settled(&script.told));
}

#[test]
fn what_is_picked_up_in_its_middle_is_settled_by_data() {
    let mut tls = Tls::new(Extent::Full);
    let mut script = Script::new(&mut tls, 443);
    script.gap(Request, None).bytes(Request, &bytes(DATA));
    assert!(settled(&script.told));

    // Noise may be the rest of a hello; the answer counts.
    let mut script = Script::new(&mut tls, 443);
    script.gap(Request, None).bytes(Request, b"noise");
    assert!(!settled(&script.told));
    script.bytes(Response, &bytes(SERVER));
    assert!(settled(&script.told) && !compared(&script.told, Kind::TlsJa3s).is_empty());
}

#[test]
fn a_hello_behind_a_torn_start_counts() {
    let mut tls = Tls::new(Extent::Full);
    let mut script = Script::new(&mut tls, 443);
    script.gap(Request, None).bytes(Request, &bytes(CLIENT));
    assert_eq!(compared(&script.told, Kind::TlsSni), ["server"]);
}

#[test]
fn a_torn_hello_is_lost_and_so_is_one_that_never_ends() {
    let mut tls = Tls::new(Extent::Full);
    for tear in [true, false] {
        let mut script = Script::new(&mut tls, 443);
        script.bytes(Request, &bytes(CLIENT)[..100]);
        match tear {
            true => script.gap(Request, Some(50)),
            false => script.end(Request, End::Reset),
        };
        assert!(!settled(&script.told));
        script.bytes(Response, &bytes(SERVER));
        assert!(settled(&script.told), "{:?}", script.told);
    }
}

#[test]
fn a_retried_hello_counts_twice() {
    let mut retry = bytes(SERVER);
    retry[11..43].copy_from_slice(&bytes(
        "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c",
    ));
    let mut tls = Tls::new(Extent::Full);
    let mut script = Script::new(&mut tls, 443);
    script
        .bytes(Request, &bytes(CLIENT))
        .bytes(Response, &[&retry[..], &bytes(CHANGE)].concat())
        .bytes(Request, &[bytes(CHANGE), bytes(CLIENT)].concat());
    assert!(!settled(&script.told));
    script.bytes(Response, &bytes(SERVER));
    assert!(settled(&script.told));
    assert_eq!(compared(&script.told, Kind::TlsSni), ["server", "server"]);
    assert_eq!(compared(&script.told, Kind::TlsJa3s).len(), 4);
}

#[test]
fn what_is_no_tls_is_foreign() {
    let mut tls = Tls::new(Extent::Full);
    let mut script = Script::new(&mut tls, 443);
    let no_tls = b"GET / HTTP/1.1\r\nHost: www.example\r\n\r\n".repeat(500);
    script.pieces(Request, &no_tls, 1000);
    assert_eq!(
        courses(&script.told)[0],
        Told::Course(Request, Course::Foreign)
    );
    assert!(
        !script
            .told
            .iter()
            .any(|told| matches!(told, Told::Begin(_)))
    );

    // A server that answers a hello in clear does not make the hello something else.
    let mut script = Script::new(&mut tls, 443);
    script
        .bytes(Request, &bytes(CLIENT))
        .bytes(Response, b"HTTP/1.1 400 Bad Request\r\n");
    assert!(settled(&script.told));
    let rest = Course::Rest(Some(FIRST));
    assert_eq!(courses(&script.told), [Told::Course(Response, rest)]);
}

/// What a proxy is asked for, and what leads to STARTTLS.
#[test]
fn hellos_may_come_behind_something_else() {
    for (asked, answered) in [
        (
            &b"CONNECT www.example:443 HTTP/1.1\r\n\r\n"[..],
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
        ),
        (b"\x05\x01\x00", b"\x05\x00"),
        (
            b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
            b"<proceed/>",
        ),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", b"S"),
    ] {
        let mut tls = Tls::new(Extent::Full);
        let mut script = Script::new(&mut tls, 443);
        script.bytes(Request, asked).bytes(Response, answered);
        assert!(
            script
                .told
                .iter()
                .all(|told| matches!(told, Told::Belongs(_, None, _)))
        );
        script
            .bytes(Request, &bytes(CLIENT))
            .bytes(Response, &bytes(SERVER));
        assert_eq!(compared(&script.told, Kind::TlsSni), ["server"]);
        assert!(settled(&script.told));
    }
}

#[test]
fn proxies_and_old_hellos_may_come_first() {
    let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 4000 443\r\n";
    let mark = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x03abc";
    for header in [&line[..], mark] {
        let sent = [header, &bytes(CLIENT)].concat();
        for size in [1, 7, 1000] {
            let mut tls = Tls::new(Extent::Full);
            let mut script = Script::new(&mut tls, 443);
            script.pieces(Request, &sent, size);
            assert_eq!(compared(&script.told, Kind::TlsSni), ["server"]);
        }
    }
    // Version 3.1 in the form of 2.0: three suites of three bytes, 16 bytes of challenge.
    let old = bytes("802201030100090000001000002f00003500000a000102030405060708090a0b0c0d0e0f");
    for size in [1, 1000] {
        let mut tls = Tls::new(Extent::Full);
        let mut script = Script::new(&mut tls, 443);
        script
            .pieces(Request, &old, size)
            .bytes(Response, &bytes(OLD_SERVER));
        let notes = details(&script.told);
        assert_eq!(
            (&notes[0]["tls.version"][..], &notes[0]["tls.form"][..]),
            ("TLS 1.0", "SSL 2.0")
        );
        assert!(settled(&script.told) && notes.len() == 2);
    }
}

#[test]
fn encrypted_hellos_are_recognised() {
    let mut sent = bytes(CLIENT);
    // Extension 28 becomes 0xfe0d.
    let at = sent.len() - 6;
    sent[at..at + 2].copy_from_slice(&[0xfe, 0x0d]);
    let mut tls = Tls::new(Extent::Full);
    let mut script = Script::new(&mut tls, 443);
    script.bytes(Request, &sent);
    assert_eq!(details(&script.told)[0]["tls.ech"], "true");
}

fn whole(told: Vec<Told>) -> (Vec<Told>, bool) {
    let is_settled = settled(&told);
    let is_said = |told: &Told| matches!(told, Told::Note { .. } | Told::Compare(..));
    (told.into_iter().filter(is_said).collect(), is_settled)
}

proptest! {
    #[test]
    fn cuts_change_nothing(
        client in prop::collection::vec(1_usize..40, 1..40),
        server in prop::collection::vec(1_usize..40, 1..40),
    ) {
        let sent = [bytes(CLIENT), bytes(CHANGE), bytes(DATA)].concat();
        let answered = [bytes(SERVER), bytes(CHANGE), bytes(DATA)].concat();
        let mut tls = Tls::new(Extent::Full);
        let mut script = Script::new(&mut tls, 443);
        script.bytes(Request, &sent[..201]).bytes(Response, &answered).bytes(Request, &sent[201..]);
        let expected = whole(script.told);
        let mut script = Script::new(&mut tls, 443);
        let mut cut = |direction, mut bytes: &[u8], sizes: &[usize]| {
            let mut sizes = sizes.iter().cycle();
            while !bytes.is_empty() {
                let (piece, rest) = bytes.split_at(bytes.len().min(*sizes.next().unwrap()));
                script.bytes(direction, piece);
                bytes = rest;
            }
        };
        cut(Request, &sent[..201], &client);
        cut(Response, &answered, &server);
        cut(Request, &sent[201..], &client);
        prop_assert_eq!(whole(script.told), expected);
    }

    #[test]
    fn any_bytes_are_taken(
        start in prop::sample::select(vec!["", CLIENT, SERVER, OLD_SERVER, "16030100ff0b0000ff", "8022010301", "0d0a0d0a000d0a515549540a"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        rest in prop::collection::vec(any::<u8>(), 0..300),
        size in 1_usize..400,
    ) {
        let mut sent = [bytes(start), rest].concat();
        if !sent.is_empty() {
            for (at, byte) in changes {
                let at = at.index(sent.len());
                sent[at] = byte;
            }
        }
        for extent in [Extent::Full, Extent::Handshake] {
            let mut tls = Tls::new(extent);
            let mut script = Script::new(&mut tls, 443);
            script.pieces(Request, &sent, size).gap(Response, Some(3)).pieces(Response, &sent, size);
            script.gap(Request, Some(100)).bytes(Request, &sent).end(Request, End::Finished);
        }
    }
}
