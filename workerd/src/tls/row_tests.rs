//! The reference's conformance rows of TLS. Where a row's target differs from what the reference does, the target stands here. Where the other rows are tested:
//!
//! | rows | tests |
//! |---|---|
//! | 30, 53, 54 | `tests/filters.rs` too, with more patterns |
//! | 25, 26, 27 | `tests/detection_vectors.rs` |
//! | 28, 29, 31 | `tests/filters.rs` |
//! | 32, 33 | the mode's expression in lc-capd |
//! | 41, 42 | `secrets.rs` |
//! | 51, 52 | `tests/tls.rs` of the whole node |
//! | 43 | the secrets themselves come from key logs; what is derived from them, sessions of rustls prove in `decrypt_tests.rs` |
//! | 44, 45, 49, 50 | the same: neither nonce, additional data, cipher nor padding may be wrong there |
//! | 55 | `datagram_tests.rs` |

use super::record::{Content, NoRecord, Records};
use super::{Extent, Tls};
use crate::extract::tls::extract;
use crate::flows::Direction::{self, Request, Response};
use crate::matcher::{Fields, Kind, Kinds};
use crate::session::script::{Script, Told};
use lc_daemon::key_log::{Label, LineError, Lines, read_line};
use lc_proto::data::PacketMetadata;
use prost::Message;
use std::collections::HashMap;

/// Bytes of hexadecimal digits; blanks between them mean nothing.
pub fn bytes(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    let pairs = digits.chunks_exact(2);
    pairs.map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The details of each note.
pub fn details(told: &[Told]) -> Vec<HashMap<String, String>> {
    let notes = told.iter().filter_map(|told| match told {
        Told::Note { details, .. } => Some(details),
        _ => None,
    });
    let decoded = notes.map(|details| PacketMetadata::decode(&details[..]).unwrap());
    decoded
        .map(|metadata| metadata.details.into_iter().collect())
        .collect()
}

/// Texts of a kind that filters were compared with.
pub fn compared(told: &[Told], wanted: Kind) -> Vec<&str> {
    let texts = told.iter().filter_map(|told| match told {
        Told::Compare(_, kind, text) if *kind == wanted => Some(&text[..]),
        _ => None,
    });
    texts.collect()
}

struct Client {
    row: u32,
    sent: &'static str,
    version: &'static str,
    sni: &'static str,
    alpn: &'static str,
    ja3: &'static str,
    /// The reference's, where it differs.
    other_ja3: &'static str,
    ja4: &'static str,
}

const CLIENTS: &[Client] = &[
    Client {
        row: 1,
        sent: "16030100c4010000c00303cb34ecb1e78163ba1c38c6dacb196a6dffa21a8d9912ec18a2ef6283024dece7000006130113031302010000910000000b0009000006736572766572ff01000100000a00140012001d0017001800190100010101020103010400230000003300260024001d002099381de560e4bd43d23d8e435a7dbafeb3c06e51c13cae4d5413691e529aaf2c002b0003020304000d0020001e040305030603020308040805080604010501060102010402050206020202002d00020101001c00024001",
        version: "TLS 1.3",
        sni: "server",
        alpn: "",
        ja3: "da4dea34fe6d4ce5f0725df3f2682fa0",
        other_ja3: "eb867987a57b744d4b8474f2f7ae701c",
        ja4: "t13d030900_55b375c5d22e_59cd3dafc54d",
    },
    Client {
        row: 3,
        sent: "16030100ee010000ea0303000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f001e130113021303c02bc02fc02cc030cca9cca8c013c014009c009d002f003501000083001b000000000014001200000f7777772e6578616d706c652e636f6d003300000010000e000c02683208687474702f312e314469000000170000002d0000000d0012001004030804040105030805050108060601000500000023000000120000002b00050403040303ff010000000b00020100000a00080006001d0017001800150000",
        version: "TLS 1.3",
        sni: "www.example.com",
        alpn: "h2,http/1.1",
        ja3: "c000e2caf3a25423f9de6c8a4b12a975",
        other_ja3: "3f7a7e5c65b63588204d057cbfd6850f",
        ja4: "t13d1516h2_8daaf6152771_e5627efa2ab1",
    },
    Client {
        row: 4,
        sent: "16030100fd010000f90303000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f00202a2a130113021303c02bc02fc02cc030cca9cca8c013c014009c009d002f0035010000905a5a0000001b000000000014001200000f7777772e6578616d706c652e636f6d003300000010000e000c02683208687474702f312e314469000000170000002d0000000d0012001004030804040105030805050108060601000500000023000000120000002b0007069a9a03040303ff010000000b00020100000a000a0008baba001d0017001800150000caca000100",
        version: "TLS 1.3",
        sni: "www.example.com",
        alpn: "h2,http/1.1",
        ja3: "c000e2caf3a25423f9de6c8a4b12a975",
        other_ja3: "3f7a7e5c65b63588204d057cbfd6850f",
        ja4: "t13d1516h2_8daaf6152771_e5627efa2ab1",
    },
    Client {
        row: 5,
        sent: "16030100de010000da0303000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f001e130113021303c02bc02fc02cc030cca9cca8c013c014009c009d002f003501000073001b000000000014001200000f7777772e6578616d706c652e636f6d003300000010000e000c02683208687474702f312e314469000000170000002d0000000500000023000000120000002b00050403040303ff010000000b00020100000a00080006001d0017001800150000000d00020000",
        version: "TLS 1.3",
        sni: "www.example.com",
        alpn: "h2,http/1.1",
        ja3: "5c0a286c5ee6802653df580b87feb0a5",
        other_ja3: "b25681a2be5fdbe7fa69a7ff731c96c8",
        ja4: "t13d1516h2_8daaf6152771_6d807ffa2a79",
    },
    Client {
        row: 6,
        sent: "160301006b010000670301000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f000018002f00350005000ac009c00ac013c01400320038001300040100002600000010000e00000b6a61332e6578616d706c65000a00080006001700180019000b00020100",
        version: "TLS 1.0",
        sni: "ja3.example",
        alpn: "",
        ja3: "ada70206e40642a3e4461f35503241d5",
        other_ja3: "",
        ja4: "t10d120300_d94e65cdb899_33a13ba74d1c",
    },
    Client {
        row: 7,
        sent: "16030100410100003d0301000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f00001600040005000a000900640062000300060013001200630100",
        version: "TLS 1.0",
        sni: "",
        alpn: "",
        ja3: "de350869b8c85de67a350c8d186f11e6",
        other_ja3: "",
        ja4: "t10i110000_3609b414f052_000000000000",
    },
    Client {
        row: 8,
        sent: "16030100430100003f0301000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f00001600040005000a0009006400620003000600130012006301000000",
        version: "TLS 1.0",
        sni: "",
        alpn: "",
        ja3: "de350869b8c85de67a350c8d186f11e6",
        other_ja3: "",
        ja4: "t10i110000_3609b414f052_000000000000",
    },
    Client {
        row: 9,
        sent: "16030100430100003f0302000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f000002002f0100001400000010000e00000b6f6c642e6578616d706c65",
        version: "TLS 1.1",
        sni: "old.example",
        alpn: "",
        ja3: "be63aa6b7e08751a76ae6f162cf2bda0",
        other_ja3: "",
        ja4: "t11d010100_ba72b8082249_000000000000",
    },
    Client {
        row: 10,
        sent: "16030100500100004c0303000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f0000021301010000210000000e000c000009612e6578616d706c650010000400020178002b0003020304",
        version: "TLS 1.3",
        sni: "a.example",
        alpn: "x",
        ja3: "9cd3a3df22ead6ac1977bf836d6ea964",
        other_ja3: "5db296a10f51bb9def3793ab35f25c83",
        ja4: "t13d0103xx_0f2cb44170f4_b9a491fefe05",
    },
    Client {
        row: 11,
        sent: "160301005a010000560303000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f00000213010100002b0000000e000c000009612e6578616d706c650010000e000c08687474702f312e31026832002b0003020304",
        version: "TLS 1.3",
        sni: "a.example",
        alpn: "http/1.1,h2",
        ja3: "9cd3a3df22ead6ac1977bf836d6ea964",
        other_ja3: "5db296a10f51bb9def3793ab35f25c83",
        ja4: "t13d0103h1_0f2cb44170f4_b9a491fefe05",
    },
    Client {
        row: 12,
        sent: "16030100510100004d0303000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f0000021301010000220000000e000c000009612e6578616d706c650010000500030230ab002b0003020304",
        version: "TLS 1.3",
        sni: "a.example",
        alpn: "0\u{fffd}",
        ja3: "9cd3a3df22ead6ac1977bf836d6ea964",
        other_ja3: "5db296a10f51bb9def3793ab35f25c83",
        ja4: "t13d01033b_0f2cb44170f4_b9a491fefe05",
    },
    Client {
        row: 13,
        sent: "160301004a010000460303000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f00000213010100001b0000000e000c000009762e6578616d706c65002b00050403030304",
        version: "TLS 1.3",
        sni: "v.example",
        alpn: "",
        ja3: "56c6570d0a7ba0fe6e87bebfd10931de",
        other_ja3: "",
        ja4: "t13d010200_0f2cb44170f4_b9a491fefe05",
    },
    Client {
        row: 14,
        sent: "16030101320100012e0303000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f0000f0c000c001c002c003c004c005c006c007c008c009c00ac00bc00cc00dc00ec00fc010c011c012c013c014c015c016c017c018c019c01ac01bc01cc01dc01ec01fc020c021c022c023c024c025c026c027c028c029c02ac02bc02cc02dc02ec02fc030c031c032c033c034c035c036c037c038c039c03ac03bc03cc03dc03ec03fc040c041c042c043c044c045c046c047c048c049c04ac04bc04cc04dc04ec04fc050c051c052c053c054c055c056c057c058c059c05ac05bc05cc05dc05ec05fc060c061c062c063c064c065c066c067c068c069c06ac06bc06cc06dc06ec06fc070c071c072c073c074c075c076c0770100001500000011000f00000c6d616e792e6578616d706c65",
        version: "TLS 1.2",
        sni: "many.example",
        alpn: "",
        ja3: "0b9eb592145118e5c4897d22be92b5aa",
        other_ja3: "",
        ja4: "t12d990100_b53fbdfabeae_000000000000",
    },
    Client {
        row: 22,
        sent: "16030100410100003d0303000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f000002130101000fa00000000e000c000009612e6578616d706c65",
        version: "TLS 1.2",
        sni: "a.example",
        alpn: "",
        ja3: "1e7c622032b0cb79401b0f7be3793a1a",
        other_ja3: "",
        ja4: "t12d010100_0f2cb44170f4_000000000000",
    },
    Client {
        row: 23,
        sent: "160301003b010000370303000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f00000213010100000c000000080006010003616263",
        version: "TLS 1.2",
        sni: "",
        alpn: "",
        ja3: "1e7c622032b0cb79401b0f7be3793a1a",
        other_ja3: "",
        ja4: "t12d010100_0f2cb44170f4_000000000000",
    },
];

#[test]
fn client_hellos() {
    for client in CLIENTS {
        let sent = bytes(client.sent);
        let mut tls = Tls::new(Extent::Full);
        let mut script = Script::new(&mut tls, 443);
        script.bytes(Request, &sent);
        let notes = details(&script.told);
        let [note] = &notes[..] else {
            panic!("row {}: {:?}", client.row, script.told);
        };
        let text = |key: &str| note.get(key).map(String::as_str).unwrap_or_default();
        assert_eq!(
            (
                text("tls.version"),
                text("tls.sni"),
                text("tls.alpn"),
                text("tls.ja3"),
                text("tls.ja4")
            ),
            (
                client.version,
                client.sni,
                client.alpn,
                client.ja3,
                client.ja4
            ),
            "row {}",
            client.row
        );
        let hashes: Vec<&str> = [client.ja3, client.other_ja3]
            .into_iter()
            .filter(|hash| !hash.is_empty())
            .collect();
        assert_eq!(
            compared(&script.told, Kind::TlsJa3),
            hashes,
            "row {}",
            client.row
        );
        assert_eq!(compared(&script.told, Kind::TlsJa4), [client.ja4]);

        // A packet by itself tells the same.
        let mut fields = Fields::default();
        assert!(extract(&sent, Kinds::ALL, &mut fields));
        let fields: Vec<(Kind, String)> = fields
            .iter()
            .map(|(_, kind, text)| (kind, String::from_utf8_lossy(text).into_owned()))
            .collect();
        let told: Vec<(Kind, String)> = script
            .told
            .iter()
            .filter_map(|told| match told {
                Told::Compare(_, kind, text) => Some((*kind, text.clone())),
                _ => None,
            })
            .collect();
        assert_eq!(fields, told, "row {}", client.row);
    }
}

#[test]
fn server_hellos() {
    for (row, sent, version, cipher, ja3s_string, hashes) in [
        (
            2,
            "160303005a020000560303a6af06a4121860dc5e6e60249cd34c95930c8ac5cb1434dac155772ed3e2692800130100002e00330024001d0020c9828876112095fe66762bdbf7c672e156d6cc253b833df1dd69b1b04e751f0f002b00020304",
            "TLS 1.3",
            "1301",
            "771,4865,51-43",
            &[
                "eb1d94daa7e0344597e756a1fb6e7054",
                "134c270d52dd3495d39878f76f646581",
            ][..],
        ),
        (
            24,
            "160303003b020000370303202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f00c02f00000fff01000100000b0002010000230000",
            "TLS 1.2",
            "c02f",
            "771,49199,65281-11-35",
            &["ccc514751b175866924439bdbb5bba34"][..],
        ),
    ] {
        let mut tls = Tls::new(Extent::Full);
        let mut script = Script::new(&mut tls, 443);
        script.bytes(Response, &bytes(sent));
        let note = &details(&script.told)[0];
        assert_eq!(
            (
                &note["tls.version"][..],
                &note["tls.cipher"][..],
                &note["tls.ja3s_string"][..]
            ),
            (version, cipher, ja3s_string),
            "row {row}"
        );
        assert_eq!(note["tls.ja3s"], hashes[0]);
        assert_eq!(compared(&script.told, Kind::TlsJa3s), hashes, "row {row}");
    }
}

/// Rows 15 to 21: what has no hello, or none that is whole.
#[test]
fn nothing_is_told_without_a_hello() {
    for (row, sent) in [
        (15, "170303001000000000000000000000000000000000"),
        (
            16,
            "16030100c4010000c00303cb34ecb1e78163ba1c38c6dacb196a6dffa21a8d9912ec18a2ef6283024dece7000006130113031302010000910000000b0009000006736572766572ff01000100000a00140012001d00170018001901000101010201030104",
        ),
        (17, "16030140010000000000000000000000000000000000000000"),
        (18, "160400000500000000000000000000"),
        (19, "16030900050b00000100"),
        (20, "16030300080b00000400000000"),
        (21, "1603030005a701020304"),
    ] {
        let sent = bytes(sent);
        for direction in [Request, Response] {
            let mut tls = Tls::new(Extent::Full);
            let mut script = Script::new(&mut tls, 443);
            script.bytes(direction, &sent);
            let is_told = |told: &Told| matches!(told, Told::Note { .. } | Told::Compare(..));
            assert!(!script.told.iter().any(is_told), "row {row}");
        }
        let mut fields = Fields::default();
        extract(&sent, Kinds::ALL, &mut fields);
        assert!(fields.is_empty(), "row {row}");
    }
}

/// Row 16: a hello over two segments counts, wherever it is cut.
#[test]
fn hellos_are_put_together() {
    let sent = bytes(CLIENTS[0].sent);
    for cut in 1..sent.len() {
        let mut tls = Tls::new(Extent::Full);
        let mut script = Script::new(&mut tls, 443);
        script
            .bytes(Request, &sent[..cut])
            .bytes(Request, &sent[cut..]);
        assert_eq!(compared(&script.told, Kind::TlsSni), ["server"], "{cut}");
        assert_eq!(
            note_offsets(&script.told),
            [(Request, sent.len() as u64 - 1)]
        );
    }
}

fn note_offsets(told: &[Told]) -> Vec<(Direction, u64)> {
    let notes = told.iter().filter_map(|told| match told {
        Told::Note {
            direction, offset, ..
        } => Some((*direction, *offset)),
        _ => None,
    });
    notes.collect()
}

const RANDOM: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const MASTER: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const TRAFFIC: &str = "aabbccddeeff00112233445566778899aabbccddeeff00112233445566778899";

/// Rows 34 to 40.
#[test]
fn lines_of_key_logs() {
    for (row, label, secret) in [
        (34, Label::ClientRandom, MASTER),
        (35, Label::ClientTraffic, TRAFFIC),
    ] {
        let line = format!("{}\t{}  {secret}\r", label.name(), RANDOM.to_uppercase());
        let entry = read_line(line.as_bytes()).unwrap().unwrap();
        assert_eq!(entry.label, label, "row {row}");
        assert_eq!(entry.client_random[..], bytes(RANDOM));
        assert_eq!(entry.secret.bytes(), bytes(secret));
    }
    for line in [
        "# This is a comment",
        "",
        "  \t",
        &format!("UNKNOWN_LABEL {RANDOM} aabbccdd"),
    ] {
        assert_eq!(read_line(line.as_bytes()), Ok(None));
    }
    for (row, line, error) in [
        (
            38,
            "CLIENT_RANDOM only_two_fields".to_owned(),
            LineError::Format,
        ),
        (
            38,
            format!("CLIENT_RANDOM {RANDOM} {MASTER} more"),
            LineError::Format,
        ),
        (
            39,
            format!("CLIENT_RANDOM 0123 {MASTER}"),
            LineError::ClientRandom,
        ),
        (
            39,
            format!("CLIENT_RANDOM {}g {MASTER}", &RANDOM[1..]),
            LineError::ClientRandom,
        ),
        (
            40,
            format!("CLIENT_RANDOM {RANDOM} 00112233"),
            LineError::Secret,
        ),
        (
            40,
            format!("CLIENT_RANDOM {RANDOM} {TRAFFIC}"),
            LineError::Secret,
        ),
        (
            40,
            format!("CLIENT_TRAFFIC_SECRET_0 {RANDOM} {TRAFFIC}0"),
            LineError::Secret,
        ),
        (
            40,
            format!("CLIENT_TRAFFIC_SECRET_0 {RANDOM} {}x", &TRAFFIC[1..]),
            LineError::Secret,
        ),
    ] {
        assert_eq!(read_line(line.as_bytes()), Err(error), "row {row}");
    }
}

#[test]
fn a_line_counts_when_its_end_has_come() {
    let log = format!(
        "# log\nCLIENT_RANDOM {RANDOM} {MASTER}\nwrong\n{}\n",
        "x".repeat(5000)
    );
    for size in [1, 10, 10_000] {
        let mut lines = Lines::default();
        let (mut entries, mut refused) = (0, Vec::new());
        for piece in log.as_bytes().chunks(size) {
            lines.take(piece, |line| match line {
                Ok(_) => entries += 1,
                Err(error) => refused.push(error),
            });
        }
        assert_eq!(entries, 1);
        assert_eq!(refused, [LineError::Format, LineError::TooLong]);
        lines.take(
            format!("CLIENT_RANDOM {RANDOM} {MASTER}").as_bytes(),
            |_| entries += 1,
        );
        assert_eq!(entries, 1);
        lines.take(b"\n", |_| entries += 1);
        assert_eq!(entries, 2);
    }
}

/// Rows 46 to 48.
#[test]
fn records_of_a_stream() {
    let mut records = Records::default();
    let sent = bytes("160303000568656c6c6f1703030005776f726c64");
    let mut rest = &sent[..];
    let mut next = || {
        records
            .next(&mut rest)
            .unwrap()
            .map(|part| (part.header.content, part.bytes))
    };
    assert_eq!(next(), Some((Content::Handshake, &b"hello"[..])));
    assert_eq!(next(), Some((Content::Data, &b"world"[..])));
    assert_eq!(next(), None);

    let mut records = Records::default();
    let first = records
        .next(&mut &bytes("1603030005686566")[..])
        .unwrap()
        .map(|part| part.is_last);
    assert_eq!(first, Some(false));
    let rest = bytes("6c6f");
    let part = records.next(&mut &rest[..]).unwrap().unwrap();
    assert!(part.is_last && part.bytes == b"lo" && records.is_between());

    let sent = bytes("160401000568656c6c6f");
    assert_eq!(Records::default().next(&mut &sent[..]), Err(NoRecord));
}
