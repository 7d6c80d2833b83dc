//! QUIC and DTLS: hellos out of datagrams.

use super::quic_keys::{Keys, Version};
use super::row_tests::{bytes, compared, details};
use super::{Extent, Tls};
use crate::flows::Direction::{Request, Response};
use crate::matcher::Kind;
use crate::session::script::{Script, Told};
use crate::session::{Content, Course, Exchange};
use proptest::prelude::*;

const FIRST: Exchange = Exchange(0);
const REST: Exchange = Exchange(1);
const QUIC_1: u32 = 1;
const QUIC_2: u32 = 0x6b33_43cf;

/// RFC 9001 appendix A.2.
const INITIAL: &str = "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11d242b123dc9bd8bab936b47d92ec356c0bab7df5976d27cd449f6330\
    0099f3991c260ec4c60d17b31f8429157bb35a1282a643a8d2262cad67500cadb8e7378c8eb7539ec4d4905fed1bee1fc8aafba17c750e2c7ace01e6\
    005f80fcb7df621230c83711b39343fa028cea7f7fb5ff89eac2308249a02252155e2347b63d58c5457afd84d05dfffdb20392844ae812154682e9cf\
    012f9021a6f0be17ddd0c2084dce25ff9b06cde535d0f920a2db1bf362c23e596d11a4f5a6cf3948838a3aec4e15daf8500a6ef69ec4e3feb6b1d98e\
    610ac8b7ec3faf6ad760b7bad1db4ba3485e8a94dc250ae3fdb41ed15fb6a8e5eba0fc3dd60bc8e30c5c4287e53805db059ae0648db2f64264ed5e39\
    be2e20d82df566da8dd5998ccabdae053060ae6c7b4378e846d29f37ed7b4ea9ec5d82e7961b7f25a9323851f681d582363aa5f89937f5a67258bf63\
    ad6f1a0b1d96dbd4faddfcefc5266ba6611722395c906556be52afe3f565636ad1b17d508b73d8743eeb524be22b3dcbc2c7468d54119c7468449a13\
    d8e3b95811a198f3491de3e7fe942b330407abf82a4ed7c1b311663ac69890f4157015853d91e923037c227a33cdd5ec281ca3f79c44546b9d90ca00\
    f064c99e3dd97911d39fe9c5d0b23a229a234cb36186c4819e8b9c5927726632291d6a418211cc2962e20fe47feb3edf330f2c603a9d48c0fcb5699d\
    bfe5896425c5bac4aee82e57a85aaf4e2513e4f05796b07ba2ee47d80506f8d2c25e50fd14de71e6c418559302f939b0e1abd576f279c4b2e0feb85c\
    1f28ff18f58891ffef132eef2fa09346aee33c28eb130ff28f5b766953334113211996d20011a198e3fc433f9f2541010ae17c1bf202580f6047472f\
    b36857fe843b19f5984009ddc324044e847a4f4a0ab34f719595de37252d6235365e9b84392b061085349d73203a4a13e96f5432ec0fd4a1ee65accd\
    d5e3904df54c1da510b0ff20dcc0c77fcb2c0e0eb605cb0504db87632cf3d8b4dae6e705769d1de354270123cb11450efc60ac47683d7b8d0f811365\
    565fd98c4c8eb936bcab8d069fc33bd801b03adea2e1fbc5aa463d08ca19896d2bf59a071b851e6c239052172f296bfb5e72404790a2181014f3b94a\
    4e97d117b438130368cc39dbb2d198065ae3986547926cd2162f40a29f0c3c8745c0f50fba3852e566d44575c29d39a03f0cda721984b6f440591f35\
    5e12d439ff150aab7613499dbd49adabc8676eef023b15b65bfc5ca06948109f23f350db82123535eb8a7433bdabcb909271a6ecbcb58b936a88cd4e\
    8f2e6ff5800175f113253d8fa9ca8885c2f552e657dc603f252e1a8e308f76f0be79e2fb8f5d5fbbe2e30ecadd220723c8c0aea8078cdfcb3868263f\
    f8f0940054da48781893a7e49ad5aff4af300cd804a6b6279ab3ff3afb64491c85194aab760d58a606654f9f4400e8b38591356fbf6425aca26dc852\
    44259ff2b19c41b9f96f3ca9ec1dde434da7d2d392b905ddf3d1f9af93d1af5950bd493f5aa731b4056df31bd267b6b90a079831aaf579be0a390131\
    37aac6d404f518cfd46840647e78bfe706ca4cf5e9c5453e9f7cfd2b8b4c8d169a44e55c88d4a9a7f9474241e221af44860018ab0856972e194cd934";

/// The hello in it, and a ServerHello of RFC 8448.
const CLIENT: &str = "010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007000504616c706e000500050100000000003300260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003020304000d0010000e0403050306030203080408050806002d00020101001c00024001003900320408ffffffffffffffff05048000ffff07048000ffff0801100104800075300901100f088394c8f03e51570806048000ffff";
const SERVER: &str = "020000560303a6af06a4121860dc5e6e60249cd34c95930c8ac5cb1434dac155772ed3e2692800130100002e00330024001d0020c9828876112095fe66762bdbf7c672e156d6cc253b833df1dd69b1b04e751f0f002b00020304";
const SNI: &str = "example.com";
const JA4: &str = "q13d0211an_62ed6f6ca7ad_4d634acda6c0";

/// A number in two bytes (RFC 9000 section 16).
fn varint(number: usize) -> [u8; 2] {
    (0x4000 | number as u16).to_be_bytes()
}

fn crypto(start: usize, bytes: &[u8]) -> Vec<u8> {
    [&[6], &varint(start)[..], &varint(bytes.len()), bytes].concat()
}

/// An Initial packet from the client or the server, for the id that keys are made of, and the one that it names.
fn initial(
    version: u32,
    key_id: &[u8],
    id: &[u8],
    is_client: bool,
    number: u8,
    frames: &[u8],
) -> Vec<u8> {
    let first = if version == QUIC_2 { 0xd0 } else { 0xc0 };
    let mut frames = frames.to_vec();
    frames.resize(frames.len().max(32), 0);
    let mut header = vec![first];
    header.extend(version.to_be_bytes());
    header.push(id.len() as u8);
    header.extend(id);
    // No id of its own, no token.
    header.extend([0, 0]);
    header.extend(varint(1 + frames.len() + 16));
    header.push(number);
    let version = Version::numbered(version).unwrap();
    Keys::derive(version, key_id, is_client)
        .unwrap()
        .seal(header, &frames)
}

#[test]
fn the_initial_packet_of_the_standard() {
    let mut tls = Tls::new(Extent::Full);
    let mut script = Script::new(&mut tls, 443);
    script.datagram(Request, &bytes(INITIAL));
    let note = &details(&script.told)[0];
    assert_eq!(
        (
            &note["tls.sni"][..],
            &note["tls.alpn"][..],
            &note["tls.ja4"][..]
        ),
        (SNI, "alpn", JA4)
    );
    assert!(
        script
            .told
            .contains(&Told::Belongs(Request, Some(FIRST), 1200))
    );
    assert_eq!(compared(&script.told, Kind::TlsJa4), [JA4]);
}

#[test]
fn hellos_of_both_sides_settle_it() {
    for version in [QUIC_1, QUIC_2] {
        let (id, other) = (b"12345678", b"abcd");
        let mut tls = Tls::new(Extent::Full);
        let mut script = Script::new(&mut tls, 443);
        script.datagram(
            Request,
            &initial(QUIC_1, id, id, true, 0, &crypto(0, &bytes(CLIENT))),
        );
        // The server may change the version (RFC 9369 section 4.1).
        let answer = initial(
            version,
            id,
            other,
            false,
            0,
            &[&[2, 0, 0, 0, 0][..], &crypto(0, &bytes(SERVER))].concat(),
        );
        script.datagram(Response, &answer);
        assert!(script.told.contains(&Told::Settle(FIRST)));
        assert_eq!(details(&script.told)[1]["tls.version"], "TLS 1.3");
        script.datagram(Request, b"\x40short header");
        let both = Course::RestOfBoth(Some(FIRST));
        assert_eq!(script.told.last(), Some(&Told::Course(Request, both)));
    }
}

#[test]
fn hellos_come_over_many_packets_in_any_order() {
    let hello = bytes(CLIENT);
    let id = b"12345678";
    // Shuffled within a packet, which follows another in its datagram; then another id, as after the first answer.
    let frames = [
        crypto(200, &hello[200..]),
        vec![1, 0, 0],
        crypto(50, &hello[50..100]),
    ]
    .concat();
    let coalesced = [
        initial(QUIC_1, id, id, true, 0, &frames),
        initial(QUIC_1, id, id, true, 1, &crypto(90, &hello[90..210])),
    ];
    let mut tls = Tls::new(Extent::Full);
    let mut script = Script::new(&mut tls, 443);
    script.datagram(Request, &coalesced.concat());
    assert!(compared(&script.told, Kind::TlsSni).is_empty());
    script.datagram(
        Request,
        &initial(QUIC_1, id, b"other id", true, 2, &crypto(0, &hello[..50])),
    );
    assert_eq!(compared(&script.told, Kind::TlsSni), [SNI]);
    drop(script);
    assert_eq!(tls.waiting_bytes(), 0);
}

#[test]
fn a_retry_changes_the_keys() {
    let hello = bytes(CLIENT);
    let mut tls = Tls::new(Extent::Full);
    let mut script = Script::new(&mut tls, 443);
    script.datagram(
        Request,
        &initial(
            QUIC_1,
            b"12345678",
            b"12345678",
            true,
            0,
            &crypto(0, &hello[..100]),
        ),
    );
    script.datagram(Response, b"\xf0\0\0\0\x01\0\x04newid retry");
    script.datagram(
        Request,
        &initial(QUIC_1, b"new id", b"new id", true, 1, &crypto(0, &hello)),
    );
    script.datagram(
        Response,
        &initial(QUIC_1, b"new id", b"", false, 0, &crypto(0, &bytes(SERVER))),
    );
    assert_eq!(compared(&script.told, Kind::TlsSni), [SNI]);
    assert!(script.told.contains(&Told::Settle(FIRST)));
}

#[test]
fn data_of_quic_can_be_left_out() {
    let id = b"12345678";
    let mut tls = Tls::new(Extent::Handshake);
    let mut script = Script::new(&mut tls, 443);
    script.datagram(
        Request,
        &initial(QUIC_1, id, id, true, 0, &crypto(0, &bytes(CLIENT))),
    );
    script.datagram(Request, b"\x40short header");
    assert!(script.told.contains(&Told::Content(REST, Content::Fails)));
    let rest = Course::Rest(Some(REST));
    assert_eq!(script.told.last(), Some(&Told::Course(Request, rest)));
}

/// A record of DTLS 1.2 with a fragment of a message.
fn record(epoch: u8, content: u8, bytes: &[u8]) -> Vec<u8> {
    let len = (bytes.len() as u16).to_be_bytes();
    [
        &[content, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 0][..],
        &len,
        bytes,
    ]
    .concat()
}

fn fragment(kind: u8, number: u8, message: &[u8], start: usize, end: usize) -> Vec<u8> {
    let three = |number: usize| (number as u32).to_be_bytes()[1..].to_vec();
    let head = [
        vec![kind],
        three(message.len()),
        vec![0, number],
        three(start),
        three(end - start),
    ];
    record(0, 22, &[&head.concat()[..], &message[start..end]].concat())
}

/// A ClientHello of DTLS: the same with a cookie.
fn hello_with(cookie: &[u8]) -> Vec<u8> {
    let hello = &bytes(CLIENT)[4..];
    let mut message = hello[..35].to_vec();
    message[..2].copy_from_slice(&[0xfe, 0xfd]);
    message.push(cookie.len() as u8);
    message.extend(cookie);
    message.extend(&hello[35..]);
    message
}

#[test]
fn dtls_with_cookies_and_fragments() {
    let mut tls = Tls::new(Extent::Full);
    let mut script = Script::new(&mut tls, 4433);
    let first = hello_with(b"");
    script.datagram(Request, &fragment(1, 0, &first, 0, first.len()));
    script.datagram(Response, &fragment(3, 0, b"\xfe\xfd\x04cook", 0, 7));
    let second = hello_with(b"cook");
    script.datagram(Request, &fragment(1, 1, &second, 100, second.len()));
    script.datagram(
        Request,
        &[
            fragment(1, 1, &second, 0, 60),
            fragment(1, 1, &second, 50, 110),
        ]
        .concat(),
    );
    assert_eq!(compared(&script.told, Kind::TlsSni), [SNI, SNI]);
    let notes = details(&script.told);
    assert!(
        notes
            .iter()
            .all(|note| note["tls.ja4"].starts_with("d13d0211an_"))
    );
    assert!(!script.told.contains(&Told::Settle(FIRST)));
    let server = &bytes(SERVER)[4..];
    script.datagram(Response, &fragment(2, 1, server, 0, server.len()));
    assert!(script.told.contains(&Told::Settle(FIRST)));
    drop(script);
    assert_eq!(tls.waiting_bytes(), 0);
}

#[test]
fn data_of_dtls_can_be_left_out() {
    let mut tls = Tls::new(Extent::Handshake);
    let mut script = Script::new(&mut tls, 4433);
    let hello = hello_with(b"");
    script.datagram(Request, &fragment(1, 0, &hello, 0, hello.len()));
    script.datagram(Request, &record(1, 22, b"finished"));
    script.datagram(Request, &record(1, 23, b"data"));
    let courses: Vec<&Told> = script
        .told
        .iter()
        .filter(|told| matches!(told, Told::Course(..)))
        .collect();
    assert_eq!(courses, [&Told::Course(Request, Course::Rest(Some(REST)))]);
}

#[test]
fn what_is_neither_is_foreign() {
    let mut tls = Tls::new(Extent::Full);
    let mut script = Script::new(&mut tls, 443);
    script.datagram(Request, b"\0\x01\0\0\x21\x12\xa4\x42");
    assert_eq!(script.told, [Told::Course(Request, Course::Foreign)]);
}

proptest! {
    #[test]
    fn any_datagrams_are_taken(
        start in prop::sample::select(vec![INITIAL, "", "16fefd0000000000000000003001", "c00000000108", "160100"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        rest in prop::collection::vec(any::<u8>(), 0..100),
        frames in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut datagram = [bytes(start), rest].concat();
        if !datagram.is_empty() {
            for (at, byte) in changes {
                let at = at.index(datagram.len());
                datagram[at] = byte;
            }
        }
        let sealed = initial(QUIC_1, b"id", b"id", true, 0, &frames);
        for extent in [Extent::Full, Extent::Handshake] {
            let mut tls = Tls::new(extent);
            let mut script = Script::new(&mut tls, 443);
            script.datagram(Request, &datagram).datagram(Response, &datagram);
            script.datagram(Request, &sealed).datagram(Response, &datagram);
        }
    }

    #[test]
    fn any_cuts_of_a_hello_give_it(order in Just((0_usize..12).collect::<Vec<_>>()).prop_shuffle()) {
        let hello = bytes(CLIENT);
        let id = b"12345678";
        let mut tls = Tls::new(Extent::Full);
        let mut script = Script::new(&mut tls, 443);
        for n in order {
            let piece = n * hello.len() / 12..(n + 1) * hello.len() / 12;
            let frame = crypto(piece.start, &hello[piece]);
            script.datagram(Request, &initial(QUIC_1, id, id, true, n as u8, &frame));
        }
        prop_assert_eq!(compared(&script.told, Kind::TlsJa4), [JA4]);
    }
}
