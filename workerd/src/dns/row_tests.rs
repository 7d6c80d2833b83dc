//! The reference's conformance rows of DNS, as they stand in its table or in the table's column "target".
//!
//! | rows | tests |
//! |---|---|
//! | 1-40 | below; 39 differs on purpose: DNS is DNS on any port |
//! | 41-49 | below; 46: NULL counts |
//! | 50-56 | below |
//! | 57-59 | `bpf.rs` in lc-capd |
//! | 60 | `tests/configuration.rs` in lc-daemon |

use std::fmt::Write;

use lc_daemon::config::{self, NoFilterPolicy};
use lc_proto::data::{DnsMetadata, PacketMetadata};
use prost::Message;
use shm_layout::filters::{Filter, Snapshot};

use super::Dns;
use super::codes::kind;
use super::tunnels::Tunnels;
use crate::decode::Decoded;
use crate::flows::Direction;
use crate::matcher::{Fields, FilterSet, Matches};
use crate::session::script::{Script, Told};

/// What carries a row's bytes, and the port of the server.
#[derive(Debug, Clone, Copy)]
enum Carrier {
    Udp(u16),
    Tcp(u16),
    /// A message without anything around it.
    Bare,
}

use Carrier::{Bare, Tcp, Udp};

struct Row {
    number: u32,
    carrier: Carrier,
    hex: &'static str,
    /// In the notation of the table; empty: nothing.
    told: &'static str,
}

#[rustfmt::skip]
const MESSAGES: &[Row] = &[
    Row { number: 1, carrier: Udp(53), hex: "123401000001000000000000076578616d706c6503636f6d0000010001", told: "id=4660; Q; QUERY; NOERROR; RD; cnt=1/0/0/0; q=`example.com` A IN" },
    Row { number: 2, carrier: Bare, hex: "abcd010000010000000000000474657374076578616d706c65036f72670000010001", told: "id=43981; Q; QUERY; NOERROR; RD; cnt=1/0/0/0; q=`test.example.org` A IN" },
    Row { number: 3, carrier: Bare, hex: "000102", told: "" },
    Row { number: 4, carrier: Udp(8080), hex: "6e6f7420646e73", told: "" },
    Row { number: 5, carrier: Udp(53), hex: "123481800001000100000000076578616d706c6503636f6d0000010001c00c000100010000012c00045db8d822", told: "id=4660; R; QUERY; NOERROR; RD+RA; cnt=1/1/0/0; q=`example.com` A IN; an: `example.com` A IN 300 `93.184.216.34`" },
    Row { number: 6, carrier: Udp(53), hex: "000281800001000100000000076578616d706c6503636f6d00001c0001c00c001c00010000012c001026062800022000010248189325c81946", told: "id=2; R; QUERY; NOERROR; RD+RA; cnt=1/1/0/0; q=`example.com` AAAA IN; an: `example.com` AAAA IN 300 `2606:2800:220:1:248:1893:25c8:1946`" },
    Row { number: 7, carrier: Udp(53), hex: "00048180000100020000000003777777076578616d706c6503636f6d0000010001c00c000500010000012c000603776562c010c02d000100010000012c0004cb007109", told: "id=4; R; QUERY; NOERROR; RD+RA; cnt=1/2/0/0; q=`www.example.com` A IN; an: `www.example.com` CNAME IN 300 `web.example.com`; an: `web.example.com` A IN 300 `203.0.113.9`" },
    Row { number: 8, carrier: Tcp(53), hex: "004300048180000100020000000003777777076578616d706c6503636f6d0000010001c00c000500010000012c000603776562c010c02d000100010000012c0004cb007109", told: "id=4; R; QUERY; NOERROR; RD+RA; cnt=1/2/0/0; q=`www.example.com` A IN; an: `www.example.com` CNAME IN 300 `web.example.com`; an: `web.example.com` A IN 300 `203.0.113.9`" },
    Row { number: 9, carrier: Udp(53), hex: "000581800001000100000000076578616d706c6503636f6d00000f0001c00c000f00010000012c0009000a046d61696cc00c", told: "id=5; R; QUERY; NOERROR; RD+RA; cnt=1/1/0/0; q=`example.com` MX IN; an: `example.com` MX IN 300 `10 mail.example.com`" },
    Row { number: 10, carrier: Udp(53), hex: "000781800001000100000000076578616d706c6503636f6d0000100001c00c001000010000012c00130b763d73706631202d616c6c067365636f6e64", told: "id=7; R; QUERY; NOERROR; RD+RA; cnt=1/1/0/0; q=`example.com` TXT IN; an: `example.com` TXT IN 300 `v=spf1 -all second`" },
    Row { number: 11, carrier: Tcp(53), hex: "003c000781800001000100000000076578616d706c6503636f6d0000100001c00c001000010000012c00130b763d73706631202d616c6c067365636f6e64", told: "id=7; R; QUERY; NOERROR; RD+RA; cnt=1/1/0/0; q=`example.com` TXT IN; an: `example.com` TXT IN 300 `v=spf1 -all second`" },
    Row { number: 12, carrier: Udp(53), hex: "000881800001000100000000076578616d706c6503636f6d0000020001c00c000200010000012c0006036e7331c00c", told: "id=8; R; QUERY; NOERROR; RD+RA; cnt=1/1/0/0; q=`example.com` NS IN; an: `example.com` NS IN 300 `ns1.example.com`" },
    Row { number: 13, carrier: Udp(53), hex: "000981800001000100000000023334033231360331383402393307696e2d61646472046172706100000c0001c00c000c00010000012c001204686f7374076578616d706c6503636f6d00", told: "id=9; R; QUERY; NOERROR; RD+RA; cnt=1/1/0/0; q=`34.216.184.93.in-addr.arpa` PTR IN; an: `34.216.184.93.in-addr.arpa` PTR IN 300 `host.example.com`" },
    Row { number: 14, carrier: Udp(53), hex: "000a81800001000100000000076578616d706c6503636f6d0000060001c00c000600010000012c0027036e7331c00c0a686f73746d6173746572c00c0000000100000002000000030000000400000005", told: "id=10; R; QUERY; NOERROR; RD+RA; cnt=1/1/0/0; q=`example.com` SOA IN; an: `example.com` SOA IN 300 `ns1.example.com hostmaster.example.com`" },
    Row { number: 15, carrier: Tcp(53), hex: "0050000a81800001000100000000076578616d706c6503636f6d0000060001c00c000600010000012c0027036e7331c00c0a686f73746d6173746572c00c0000000100000002000000030000000400000005", told: "id=10; R; QUERY; NOERROR; RD+RA; cnt=1/1/0/0; q=`example.com` SOA IN; an: `example.com` SOA IN 300 `ns1.example.com hostmaster.example.com`" },
    Row { number: 16, carrier: Udp(53), hex: "000b81800001000100000000045f736970045f756470076578616d706c6503636f6d0000210001c00c002100010000012c0017000a003c13c403736970076578616d706c6503636f6d00", told: "id=11; R; QUERY; NOERROR; RD+RA; cnt=1/1/0/0; q=`_sip._udp.example.com` SRV IN; an: `_sip._udp.example.com` SRV IN 300 `10 60 5060 sip.example.com`" },
    Row { number: 17, carrier: Udp(53), hex: "000d81800001000000000001076578616d706c6503636f6d000001000100002904d0010000000000", told: "id=13; R; QUERY; RCODE16; RD+RA; cnt=1/0/0/1; q=`example.com` A IN" },
    Row { number: 18, carrier: Udp(53), hex: "000e81830001000000010000046e6f7065076578616d706c6503636f6d0000010001c011000600010000012c0033026e73076578616d706c6503636f6d000168076578616d706c6503636f6d000000000000000000000000000000000000000000", told: "id=14; R; QUERY; NXDOMAIN; RD+RA; cnt=1/0/1/0; q=`nope.example.com` A IN" },
    Row { number: 19, carrier: Udp(53), hex: "00108780000100000000000005666c616773076578616d706c650000010001", told: "id=16; R; QUERY; NOERROR; AA+TC+RD+RA; cnt=1/0/0/0; q=`flags.example` A IN" },
    Row { number: 20, carrier: Udp(53), hex: "001181b0000100000000000006646e73736563076578616d706c650000010001", told: "id=17; R; QUERY; NOERROR; RD+RA+AD+CD; cnt=1/0/0/0; q=`dnssec.example` A IN" },
    Row { number: 21, carrier: Udp(53), hex: "001224000001000000000000047a6f6e65076578616d706c650000060001", told: "id=18; Q; NOTIFY; NOERROR; AA; cnt=1/0/0/0; q=`zone.example` SOA IN" },
    Row { number: 22, carrier: Udp(53), hex: "0014300000010000000000000364736f076578616d706c650000010001", told: "id=20; Q; OPCODE6; NOERROR; cnt=1/0/0/0; q=`dso.example` A IN" },
    Row { number: 23, carrier: Udp(53), hex: "0015818b000100000000000003723131076578616d706c650000010001", told: "id=21; R; QUERY; RCODE11; RD+RA; cnt=1/0/0/0; q=`r11.example` A IN" },
    Row { number: 24, carrier: Udp(53), hex: "00160100000100000000000003737663076578616d706c650000410001", told: "id=22; Q; QUERY; NOERROR; RD; cnt=1/0/0/0; q=`svc.example` TYPE65 IN" },
    Row { number: 25, carrier: Udp(53), hex: "0018010000010000000000000174076578616d706c6500000a0001", told: "id=24; Q; QUERY; NOERROR; RD; cnt=1/0/0/0; q=`t.example` TYPE10 IN" },
    Row { number: 26, carrier: Udp(53), hex: "0019010000010000000000000776657273696f6e0462696e640000100003", told: "id=25; Q; QUERY; NOERROR; RD; cnt=1/0/0/0; q=`version.bind` TXT CH" },
    Row { number: 27, carrier: Udp(5353), hex: "000000000001000000000000045f697070045f746370056c6f63616c00000c8001", told: "id=0; Q; QUERY; NOERROR; cnt=1/0/0/0; q=`_ipp._tcp.local` PTR CLASS32769" },
    Row { number: 28, carrier: Udp(53), hex: "001c01000001000000000000c00c00010001", told: "id=28; Q; QUERY; NOERROR; RD; cnt=1/0/0/0; no question fields" },
    Row { number: 29, carrier: Bare, hex: "001d01000001000000000000c01200010001c014c016c018c01ac01cc01ec020c022c0240464656570076578616d706c6500", told: "id=29; Q; QUERY; NOERROR; RD; cnt=1/0/0/0; q=`deep.example` A IN" },
    Row { number: 30, carrier: Bare, hex: "001d01000001000000000000c01200010001c014c016c018c01ac01cc01ec020c022c024c0260464656570076578616d706c6500", told: "id=29; Q; QUERY; NOERROR; RD; cnt=1/0/0/0; no question fields" },
    Row { number: 31, carrier: Bare, hex: "001f010000010000000000003f616263", told: "id=31; Q; QUERY; NOERROR; RD; cnt=1/0/0/0; no question fields" },
    Row { number: 32, carrier: Bare, hex: "002081800001000500000000057472756e63076578616d706c650000010001c00c000100010000012c000401020304", told: "id=32; R; QUERY; NOERROR; RD+RA; cnt=1/5/0/0; q=`trunc.example` A IN; an: `trunc.example` A IN 300 `1.2.3.4`" },
    Row { number: 33, carrier: Bare, hex: "00218180000100010000000003637574076578616d706c650000010001c00c000100010000012c00c80102", told: "id=33; R; QUERY; NOERROR; RD+RA; cnt=1/1/0/0; q=`cut.example` A IN; an: `cut.example` A IN 300 (empty)" },
    Row { number: 34, carrier: Udp(53), hex: "002201000002000000000000056669727374076578616d706c650000010001067365636f6e64076578616d706c6500001c0001", told: "id=34; Q; QUERY; NOERROR; RD; cnt=2/0/0/0; q=`first.example` A IN" },
    Row { number: 35, carrier: Udp(53), hex: "0023010000010000000000000000020001", told: "id=35; Q; QUERY; NOERROR; RD; cnt=1/0/0/0; q=`` NS IN" },
    Row { number: 36, carrier: Udp(53), hex: "00240100000100000000000003fffe41076578616d706c650000010001", told: "id=36; Q; QUERY; NOERROR; RD; cnt=1/0/0/0; q=`�A.example` A IN" },
    Row { number: 37, carrier: Tcp(53), hex: "001d123401000001000000000000076578616d706c6503636f6d0000010001", told: "id=4660; Q; QUERY; NOERROR; RD; cnt=1/0/0/0; q=`example.com` A IN" },
    Row { number: 38, carrier: Tcp(53), hex: "12340100000100000000000007", told: "" },
    Row { number: 39, carrier: Tcp(5353), hex: "001d123401000001000000000000076578616d706c6503636f6d0000010001", told: "id=4660; Q; QUERY; NOERROR; RD; cnt=1/0/0/0; q=`example.com` A IN" },
    Row { number: 40, carrier: Udp(5355), hex: "123401000001000000000000076578616d706c6503636f6d0000010001", told: "id=4660; Q; QUERY; NOERROR; RD; cnt=1/0/0/0; q=`example.com` A IN" },
];

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// Everything that is told of a row's bytes.
fn play(carrier: Carrier, hex: &str) -> Vec<Told> {
    let mut dns = Dns::new(&config::Dns::default());
    let bytes = bytes(hex);
    match carrier {
        Bare => std::mem::take(
            &mut Script::new(&mut dns, 53)
                .datagram(Direction::Request, &bytes)
                .told,
        ),
        Udp(port) => std::mem::take(
            &mut Script::new(&mut dns, port)
                .datagram(Direction::Request, &bytes)
                .told,
        ),
        Tcp(port) => std::mem::take(
            &mut Script::new(&mut dns, port)
                .bytes(Direction::Request, &bytes)
                .told,
        ),
    }
}

fn metadata(told: &[Told]) -> Option<DnsMetadata> {
    told.iter().find_map(|told| match told {
        Told::Note { blocks, .. } => PacketMetadata::decode(&blocks[..]).unwrap().dns,
        _ => None,
    })
}

/// In the notation of the table.
fn notation(dns: &DnsMetadata) -> String {
    let direction = if dns.is_response { "R" } else { "Q" };
    let mut text = format!(
        "id={}; {direction}; {}; {}",
        dns.transaction_id, dns.opcode, dns.response_code
    );
    let flags: Vec<_> = [
        (dns.authoritative, "AA"),
        (dns.truncated, "TC"),
        (dns.recursion_desired, "RD"),
        (dns.recursion_available, "RA"),
        (dns.authenticated_data, "AD"),
        (dns.checking_disabled, "CD"),
    ]
    .into_iter()
    .filter_map(|(is_set, name)| is_set.then_some(name))
    .collect();
    if !flags.is_empty() {
        write!(text, "; {}", flags.join("+")).unwrap();
    }
    let (questions, answers) = (dns.question_count, dns.answer_count);
    write!(
        text,
        "; cnt={questions}/{answers}/{}/{}",
        dns.authority_count, dns.additional_count
    )
    .unwrap();
    match dns.query_type.is_empty() {
        true => text += "; no question fields",
        false => write!(
            text,
            "; q=`{}` {} {}",
            dns.query_name, dns.query_type, dns.query_class
        )
        .unwrap(),
    }
    for answer in &dns.answers {
        write!(
            text,
            "; an: `{}` {} {} {} ",
            answer.name, answer.r#type, answer.class, answer.ttl
        )
        .unwrap();
        match answer.data.is_empty() {
            true => text += "(empty)",
            false => write!(text, "`{}`", answer.data).unwrap(),
        }
    }
    text
}

#[test]
fn messages_are_told_as_the_rows_say() {
    for row in MESSAGES {
        let told = play(row.carrier, row.hex);
        let text = metadata(&told).as_ref().map(notation);
        assert_eq!(text.unwrap_or_default(), row.told, "row {}", row.number);
    }
}

struct Tunnel {
    number: u32,
    /// Names, where `%d` counts from 0; types; how often.
    queries: &'static [(&'static str, u16, u32)],
    entropy: f64,
    tunneling: f64,
    /// What the reference reports.
    signs: &'static [&'static str],
}

const TUNNELS: &[Tunnel] = &[
    Tunnel {
        number: 41,
        queries: &[("www.example.com", kind::A, 1)],
        entropy: 3.026987,
        tunneling: 0.0,
        signs: &[],
    },
    Tunnel {
        number: 42,
        queries: &[(
            "aGVsbG93b3JsZHRoaXNpc2F0ZXN0.suspicious.example.com",
            kind::TXT,
            20,
        )],
        entropy: 4.431128,
        tunneling: 0.630338,
        signs: &["high_entropy", "txt_heavy"],
    },
    Tunnel {
        number: 43,
        queries: &[("%dx7q9zk2m4w8v1b6n3.t.evil.example", kind::TXT, 150)],
        entropy: 4.413910,
        tunneling: 0.874173,
        signs: &["many_subdomains", "high_entropy", "txt_heavy"],
    },
    Tunnel {
        number: 44,
        queries: &[("h%d.cdn.example", kind::A, 50)],
        entropy: 3.546594,
        tunneling: 0.138978,
        signs: &[],
    },
    Tunnel {
        number: 45,
        queries: &[
            ("a.b.shop.co.uk", kind::A, 1),
            ("data.shop.co.uk", kind::TXT, 1),
        ],
        entropy: 3.251629,
        tunneling: 0.075,
        signs: &["txt_heavy"],
    },
    Tunnel {
        number: 46,
        queries: &[("abc.null.example", kind::NULL, 5)],
        entropy: 3.182006,
        // The reference: 0; its target: 0.15 of queries for TXT and NULL.
        tunneling: 0.15,
        signs: &[],
    },
    Tunnel {
        number: 47,
        queries: &[
            ("a.mix.example", kind::A, 1),
            ("b.mix.example", kind::TXT, 1),
        ],
        entropy: 2.913977,
        tunneling: 0.075,
        signs: &["txt_heavy"],
    },
    Tunnel {
        number: 48,
        queries: &[("localhost", kind::A, 1)],
        entropy: 2.725481,
        tunneling: 0.0,
        signs: &[],
    },
    Tunnel {
        number: 49,
        queries: &[("c.cn.example", kind::CNAME, 4)],
        entropy: 2.921928,
        tunneling: 0.0,
        signs: &[],
    },
];

#[test]
fn tunnels_are_scored_as_the_rows_say() {
    for row in TUNNELS {
        let mut tunnels = Tunnels::new();
        let queries = row.queries.iter().flat_map(|(name, kind, count)| {
            (0..*count).map(move |n| (name.replace("%d", &n.to_string()), *kind))
        });
        let scores =
            queries.map(|(name, kind)| tunnels.query(name.to_lowercase().as_bytes(), kind, 0));
        let score = scores.last().unwrap();
        let number = row.number;
        assert!(
            (score.entropy - row.entropy).abs() < 1e-6,
            "row {number}: {score:?}"
        );
        assert!(
            (score.tunneling - row.tunneling).abs() < 1e-6,
            "row {number}: {score:?}"
        );
        assert!(
            score.signs.names().eq(row.signs.iter().copied()),
            "row {number}: {score:?}"
        );
    }
}

struct Filtered {
    number: u32,
    patterns: &'static [&'static str],
    carrier: Carrier,
    hex: &'static str,
    matched: &'static [&'static str],
}

const FILTERS: &[Filtered] = &[
    Filtered {
        number: 50,
        patterns: &["*.example.com"],
        carrier: Udp(53),
        hex: "00280100000100000000000003777777076578616d706c6503636f6d0000010001",
        matched: &["f0"],
    },
    Filtered {
        number: 51,
        patterns: &["*.example.com"],
        carrier: Udp(53),
        hex: "123401000001000000000000076578616d706c6503636f6d0000010001",
        matched: &[],
    },
    Filtered {
        number: 52,
        patterns: &["example.com", "www.example.com"],
        carrier: Udp(53),
        hex: "00280100000100000000000003777777076578616d706c6503636f6d0000010001",
        matched: &["f1"],
    },
    Filtered {
        number: 53,
        patterns: &["*bad-cdn*"],
        carrier: Udp(53),
        hex: "002b8180000100010000000001610473686f70076578616d706c650000010001c00c000500010000012c00120465646765076261642d63646e036e657400",
        matched: &["f0"],
    },
    Filtered {
        number: 54,
        patterns: &["*.example.com"],
        carrier: Udp(53),
        hex: "002d0120000100000000000003777777076578616d706c6503636f6d0000010001",
        matched: &["f0"],
    },
    Filtered {
        number: 55,
        patterns: &["*.example.com"],
        carrier: Tcp(53),
        hex: "002100280100000100000000000003777777076578616d706c6503636f6d0000010001",
        matched: &["f0"],
    },
    Filtered {
        number: 56,
        patterns: &["*.example.com"],
        carrier: Udp(5353),
        hex: "00000000000100000000000003777777076578616d706c6503636f6d0000010001",
        matched: &["f0"],
    },
];

/// The ids of the filters for DNS names that match what was told.
fn matching(patterns: &[&str], told: &[Told]) -> Vec<String> {
    let filters = patterns.iter().enumerate().map(|(n, pattern)| Filter {
        id: format!("f{n}"),
        filter_type: 7,
        pattern: (*pattern).to_owned(),
        enabled: true,
    });
    let snapshot = Snapshot {
        generation: 1,
        filters: filters.collect(),
    };
    let (set, refused) = FilterSet::compile(&snapshot, NoFilterPolicy::Deny);
    assert!(refused.is_empty());
    let (mut fields, mut matches) = (Fields::default(), Matches::default());
    for told in told {
        if let Told::Compare(_, kind, text) = told {
            fields.push(*kind, text.as_bytes());
        }
    }
    set.judge(&Decoded::default(), &fields, false, &mut matches);
    let ids = matches
        .filters()
        .iter()
        .map(|filter| set.id(*filter).to_owned());
    ids.collect()
}

#[test]
fn filters_match_as_the_rows_say() {
    for row in FILTERS {
        let told = play(row.carrier, row.hex);
        assert_eq!(
            matching(row.patterns, &told),
            row.matched,
            "row {}",
            row.number
        );
    }
}
