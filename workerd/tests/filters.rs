//! The conformance tables of the filter types: each row is a packet or a field, a filter, and whether it matches.
//!
//! The last column names the weakness of the reference implementation that a row shows, where the reference decides otherwise:
//!
//! | | there | here |
//! |---|---|---|
//! | W8 | disabled filters match | they don't count |
//! | W9 | `call_id`, `codec`, `http_*` are no filters | they are |
//! | W14, W15 | `tel:` and `SIP:` are not read | they are |
//! | W16 | a blank before the colon hides a header | it does not |
//! | W17 | of repeated headers, lists and display names, one URI counts | all URIs do, display names never |
//! | W18, W19 | one id for an address, a number, a fingerprint | all, the reference's first |
//! | W20 | `*digits*` is the end of a number of ten digits or more | it is any part of a number |
//! | W21 | a lone star matches nothing among a hundred patterns | it matches |
//! | W24, W25 | an IMSI in brackets and most IMEIs are missed | they are found |
//! | W26 | what is no address counts as filter | it is refused |
//! | W30, W31 | subjects, bare addresses, pipelined commands, other ports are missed | they are found |

#![allow(clippy::unwrap_used)]

use lc_daemon::config::NoFilterPolicy;
use lc_proto::management::FilterType;
use lc_workerd::decode::{Addr, Decoded, Transport};
use lc_workerd::extract::extract;
use lc_workerd::matcher::{Fields, FilterSet, Kind, Matches, Reason, Refused, Verdict};
use proptest::prelude::*;
use shm_layout::filters::{Filter, Snapshot};

/// Id, type, pattern; a `-` before the id: disabled.
type Row<'a> = (&'a str, &'a str, &'a str);

fn compile(rows: &[Row<'_>], policy: NoFilterPolicy) -> (FilterSet, Vec<Refused>) {
    let filters = rows.iter().map(|(id, kind, pattern)| Filter {
        id: id.trim_start_matches('-').to_owned(),
        filter_type: FilterType::from_name(kind).unwrap() as u32,
        pattern: (*pattern).to_owned(),
        enabled: !id.starts_with('-'),
    });
    let snapshot = Snapshot {
        generation: 1,
        filters: filters.collect(),
    };
    FilterSet::compile(&snapshot, policy)
}

fn ids(
    set: &FilterSet,
    addresses: Option<(Addr, Addr)>,
    fields: &Fields,
) -> (Verdict, Vec<String>) {
    let decoded = Decoded {
        addresses,
        ..Decoded::default()
    };
    let mut matches = Matches::default();
    let verdict = set.judge(&decoded, fields, false, &mut matches);
    let ids = matches
        .filters()
        .iter()
        .map(|filter| set.id(*filter).to_owned());
    (verdict, ids.collect())
}

/// What a set says of a payload.
fn judge(set: &FilterSet, transport: Transport, payload: &str) -> (Verdict, Vec<String>) {
    let mut fields = Fields::default();
    extract(transport, payload.as_bytes(), set.wanted(), &mut fields);
    ids(set, None, &fields)
}

/// A message of these lines, `|` between them; with the request line of most rows unless they have one.
fn sip(lines: &str) -> String {
    let has_start = lines.starts_with("INVITE ") || lines.starts_with("SIP/2.0 ");
    let start = if has_start {
        ""
    } else {
        "INVITE sip:svc@proxy.example SIP/2.0|"
    };
    let (head, body) = lines.split_once("||").unwrap_or((lines, ""));
    format!("{start}{head}|Call-ID: t@x||{body}").replace('|', "\r\n")
}

/// Pattern, message, whether it matches, weakness.
type SipRow = (&'static str, &'static str, bool, &'static str);

fn check_sip(kind: &str, rows: &[SipRow]) {
    for (pattern, lines, expected, weakness) in rows {
        for others in [0, 150] {
            // Many others make no difference (W21).
            let names: Vec<_> = (0..others)
                .map(|n| (format!("o{n}"), format!("filler-{n}")))
                .collect();
            let mut filters: Vec<Row<'_>> = vec![("f", kind, pattern)];
            filters.extend(
                names
                    .iter()
                    .map(|(id, pattern)| (id.as_str(), "sip_user", pattern.as_str())),
            );
            let (set, _) = compile(&filters, NoFilterPolicy::Deny);
            let (_, ids) = judge(&set, Transport::Udp, &sip(lines));
            assert_eq!(
                ids == ["f"],
                *expected,
                "{kind} {pattern} {lines} {weakness} {ids:?}"
            );
        }
    }
}

#[test]
fn sip_messages() {
    check_sip("sip_user", SIP_USER);
    check_sip("phone_number", PHONE_NUMBER);
    check_sip("sip_uri", SIP_URI);
    check_sip("imsi", IMSI);
    check_sip("imei", IMEI);
    // Not in the reference (W9).
    check_sip(
        "call_id",
        &[
            ("T@x", "From: <sip:a@b>", true, "W9"),
            ("t", "From: <sip:a@b>", false, ""),
            ("t*", "From: <sip:a@b>", true, "W9"),
        ],
    );
    let offer = "From: <sip:a@b>||v=0|m=audio 9 RTP/AVP 8 96|a=rtpmap:96 opus/48000/2|";
    check_sip(
        "codec",
        &[
            ("pcma", offer, true, "W9"),
            ("OPUS", offer, true, "W9"),
            ("PCMU", offer, false, ""),
        ],
    );
}

#[test]
fn sip_messages_in_disguise() {
    let (set, _) = compile(&[("f", "sip_user", "alice")], NoFilterPolicy::Deny);
    for message in [
        "INVITE sip:x@y SIP/2.0\r\nFrom:\r\n <sip:alice@b>\r\n\r\n",
        "INVITE  sip:alice@y   SIP/2.0\r\nCSeq: x\r\n\r\n",
        "\r\n\r\nINVITE sip:x@y SIP/2.0\nTo: x\r\nf : <sip:alice@b>\r\rbody",
        "INVITE sip:x@y SIP/2.0\r\nContent-Length: many\r\nTo: <sip:alice@b",
        "PING sip:x@y SIP/2.0\r\nFrom: sip:alice@b",
    ] {
        for transport in [Transport::Udp, Transport::Tcp] {
            assert_eq!(
                judge(&set, transport, message).0,
                Verdict::Matched,
                "{message}"
            );
        }
    }
}

#[test]
fn fields_of_each_kind() {
    let (md5, ja4) = (
        "e7d705a3286e19ea42f587b344ee6865",
        "t13d1516h2_8daaf6152771_b186095e22bb",
    );
    for (kind, pattern, of, value, expected) in [
        (
            "email_address",
            "*@example.com",
            Kind::EmailAddress,
            "user@example.com",
            true,
        ),
        (
            "email_address",
            "admin@*",
            Kind::EmailAddress,
            "admin@other.com",
            true,
        ),
        (
            "email_address",
            "*@example.com",
            Kind::EmailAddress,
            "user@other.com",
            false,
        ),
        (
            "email_address",
            "*@example.com",
            Kind::EmailAddress,
            "",
            false,
        ),
        (
            "email_subject",
            "*confidential*",
            Kind::EmailSubject,
            "CONFIDENTIAL information",
            true,
        ),
        (
            "email_subject",
            "URGENT*",
            Kind::EmailSubject,
            "URGENT: Please respond",
            true,
        ),
        (
            "email_subject",
            "*confidential*",
            Kind::EmailSubject,
            "Hello World",
            false,
        ),
        (
            "tls_sni",
            "*.google.com",
            Kind::TlsSni,
            "www.google.com",
            true,
        ),
        ("tls_sni", "*.google.com", Kind::TlsSni, "google.com", false),
        ("tls_sni", "api.*", Kind::TlsSni, "API.example.com", true),
        ("tls_sni", "example.com", Kind::TlsSni, "example.com", true),
        (
            "tls_ja3",
            "E7D705A3286E19EA42F587B344EE6865",
            Kind::TlsJa3,
            md5,
            true,
        ),
        (
            "tls_ja3",
            "  e7d705a3286e19ea42f587b344ee6865 ",
            Kind::TlsJa3,
            md5,
            true,
        ),
        (
            "tls_ja3",
            "e7d705a3286e19ea42f587b344ee6860",
            Kind::TlsJa3,
            md5,
            false,
        ),
        ("tls_ja3", "*", Kind::TlsJa3, md5, false),
        ("tls_ja3", md5, Kind::TlsJa3s, md5, false),
        (
            "tls_ja3s",
            md5,
            Kind::TlsJa3s,
            "E7D705A3286E19EA42F587B344EE6865",
            true,
        ),
        ("tls_ja4", ja4, Kind::TlsJa4, ja4, true),
        (
            "tls_ja4",
            " t13d1516h2_8daaf6152771_b186095e22bb ",
            Kind::TlsJa4,
            ja4,
            true,
        ),
        (
            "tls_ja4",
            "T13D1516H2_8DAAF6152771_B186095E22BB",
            Kind::TlsJa4,
            ja4,
            false,
        ),
        (
            "http_host",
            "*.example.com",
            Kind::HttpHost,
            "www.example.com",
            true,
        ),
        ("http_host", "api.*", Kind::HttpHost, "API.internal", true),
        (
            "http_host",
            "example.com",
            Kind::HttpHost,
            "example.com:8080",
            false,
        ),
        ("http_url", "/api/*", Kind::HttpUrl, "/api/v1/users", true),
        ("http_url", "*/admin/*", Kind::HttpUrl, "/x/admin/y", true),
        ("http_url", "/login", Kind::HttpUrl, "/LOGIN", true),
        ("http_url", "/login", Kind::HttpUrl, "/login?x=1", false),
    ] {
        let (set, _) = compile(&[("f", kind, pattern)], NoFilterPolicy::Deny);
        let mut fields = Fields::default();
        fields.push(of, value.as_bytes());
        assert_eq!(
            ids(&set, None, &fields).0 == Verdict::Matched,
            expected,
            "{kind} {pattern} {value}"
        );
    }
}

#[test]
fn mail_in_segments() {
    for (kind, pattern, segment, expected, _weakness) in [
        (
            "email_address",
            "a@b.c",
            "MAIL FROM:<a@b.c> SIZE=5\r\n",
            true,
            "",
        ),
        ("email_address", "a@b.c", "mail from:<A@B.C>\r\n", true, ""),
        ("email_address", "a@b.c", "RCPT TO:<a@b.c>\r\n", true, ""),
        ("email_address", "a@b.c", "MAIL FROM:a@b.c\r\n", true, "W31"),
        (
            "email_address",
            "a@b.c",
            "MAIL FROM:<x@y.z>\r\nRCPT TO:<a@b.c>\r\n",
            true,
            "W31",
        ),
        ("email_address", "a@b.c", "EHLO a@b.c\r\n", false, ""),
        // On any port.
        (
            "email_address",
            "a@b.c",
            "MAIL FROM:<a@b.c>\r\n",
            true,
            "W31",
        ),
        (
            "email_subject",
            "*secret*",
            "Subject: top secret\r\n",
            true,
            "W30",
        ),
    ] {
        let (set, _) = compile(&[("f", kind, pattern)], NoFilterPolicy::Deny);
        let (verdict, _) = judge(&set, Transport::Tcp, segment);
        assert_eq!(verdict == Verdict::Matched, expected, "{kind} {segment}");
    }
}

#[test]
fn patterns_that_can_match_nothing_are_refused_and_do_not_count() {
    for (kind, pattern, reason) in [
        ("tls_ja3", "e7d705a3286e19ea42f587b344ee6865", None),
        ("tls_ja3", "E7D705A3286E19EA42F587B344EE6865", None),
        ("tls_ja3", "  e7d705a3286e19ea42f587b344ee6865  ", None),
        (
            "tls_ja3",
            "e7d705a3286e19ea42f587b344ee686",
            Some(Reason::NoJa3),
        ),
        (
            "tls_ja3s",
            "e7d705a3286e19ea42f587b344ee68651",
            Some(Reason::NoJa3),
        ),
        (
            "tls_ja3",
            "e7d705a3286e19ea42f587b344ee686g",
            Some(Reason::NoJa3),
        ),
        ("tls_ja4", "t13d1516h2_8daaf6152771_b186095e22bb", None),
        ("tls_ja4", "q13d1516h2_8daaf6152771_b186095e22bb", None),
        ("tls_ja4", "d13d1516h2_8daaf6152771_b186095e22bb", None),
        (
            "tls_ja4",
            "x13d1516h2_8daaf6152771_b186095e22bb",
            Some(Reason::NoJa4),
        ),
        (
            "tls_ja4",
            "t13d1516h28daaf6152771b186095e22bb",
            Some(Reason::NoJa4),
        ),
        (
            "tls_ja4",
            "t13d1516h2_8daf6152771_b186095e22bb",
            Some(Reason::NoJa4),
        ),
        (
            "tls_ja4",
            "t13d1516h2_8DAAF6152771_b186095e22bb",
            Some(Reason::NoJa4),
        ),
        (
            "tls_ja4",
            "ts3d0101h1_8daaf6152771_b186095e22bb",
            Some(Reason::NoJa4),
        ),
        ("ip_address", "10.0.0.0/99", Some(Reason::NoAddress)),
        ("ip_address", "1234.*", Some(Reason::NoAddress)),
        ("ip_address", "a:b", Some(Reason::NoAddress)),
        ("ip_address", "2001:db8::1", None),
        ("ip_address", "192.168.*.*", None),
        ("phone_number", "+1415*", None),
        ("phone_number", "*abc", None),
        ("call_id", "x", None),
        ("imsi", "anything", Some(Reason::NoImsi)),
        ("imsi", "26201123456789", Some(Reason::NoImsi)),
        ("imsi", "26201*", Some(Reason::NoImsi)),
        ("imsi", "262-01-1234567890", None),
        ("imei", "3534567890123", Some(Reason::NoImei)),
        ("imei", "35-345678-901234-0", None),
        ("ip_address", "invalid", Some(Reason::NoAddress)),
        ("dns_domain", "**foo**", None),
        ("phone_number", "", None),
        ("bpf", "not a filter((", None),
    ] {
        let (set, refused) = compile(&[("f", kind, pattern)], NoFilterPolicy::Allow);
        assert_eq!(
            refused.first().map(|one| one.reason),
            reason,
            "{kind} {pattern}"
        );
        if reason.is_some() {
            assert_eq!(ids(&set, None, &Fields::default()).0, Verdict::Passed);
            assert!(refused[0].to_string().contains(pattern), "{}", refused[0]);
        }
    }
    let unknown = Filter {
        id: "u".to_owned(),
        filter_type: 99,
        pattern: "x".to_owned(),
        enabled: true,
    };
    let other = Filter {
        id: "o".to_owned(),
        filter_type: 7,
        pattern: "x".to_owned(),
        enabled: true,
    };
    let snapshot = Snapshot {
        generation: 1,
        filters: vec![unknown, other],
    };
    let (set, refused) = FilterSet::compile(&snapshot, NoFilterPolicy::Deny);
    assert_eq!(refused[0].reason, Reason::UnknownType);
    assert!(set.wanted().has(Kind::DnsName));
}

/// Source and destination address, `; ` between headers, filters, policy, whether it is forwarded, ids, weakness.
#[test]
fn sets_of_filters() {
    let other = "1.1.1.1 2.2.2.2";
    let call = "198.51.100.1 198.51.100.2";
    let long = "From: <sip:+4912345678901@x>";
    let ims = "From: <sip:alice@x>|Authorization: Digest username=\"262011234567890@ims.mnc001.mcc262.3gppnetwork.org\"";
    let from_alice = "From: <sip:alice@b>";
    type Set<'a> = (
        &'a [Row<'a>],
        &'a str,
        &'a str,
        &'a str,
        bool,
        &'a str,
        &'a str,
    );
    let rows: [Set<'_>; 30] = [
        (&[], "allow", other, "", true, "", ""),
        (&[], "deny", other, "", false, "", ""),
        (
            &[("c", "call_id", "x")],
            "allow",
            other,
            "",
            false,
            "",
            "W9",
        ),
        (
            &[("c", "codec", "PCMU")],
            "deny",
            other,
            "",
            false,
            "",
            "W9",
        ),
        (&[("b", "bpf", "port 1")], "allow", other, "", true, "", ""),
        (
            &[("-d", "dns_domain", "a.b")],
            "allow",
            other,
            "",
            true,
            "",
            "",
        ),
        (
            &[("-i", "ip_address", "1.1.1.1")],
            "deny",
            other,
            "",
            false,
            "",
            "W8",
        ),
        (
            &[("-u", "sip_user", "alice")],
            "deny",
            call,
            from_alice,
            false,
            "",
            "W8",
        ),
        (
            &[("i", "ip_address", "bogus")],
            "allow",
            other,
            "",
            true,
            "",
            "W26",
        ),
        (&[("i", "imsi", "123")], "allow", other, "", true, "", ""),
        (
            &[
                ("i", "ip_address", "198.51.100.1"),
                ("u", "sip_user", "alice"),
            ],
            "deny",
            call,
            from_alice,
            true,
            "i u",
            "",
        ),
        (
            &[("i", "ip_address", "9.9.9.9"), ("u", "sip_user", "alice")],
            "deny",
            call,
            from_alice,
            true,
            "u",
            "",
        ),
        (
            &[
                ("u", "sip_user", "alice"),
                ("i", "ip_address", "198.51.100.1"),
            ],
            "deny",
            call,
            "From: <sip:bob@b>",
            true,
            "i",
            "",
        ),
        (
            &[("i", "ip_address", "198.51.100.0/24")],
            "deny",
            call,
            "",
            true,
            "i",
            "",
        ),
        (
            &[
                ("a", "ip_address", "198.51.100.1"),
                ("b", "ip_address", "198.51.100.2"),
            ],
            "deny",
            call,
            "",
            true,
            "a b",
            "",
        ),
        (
            &[
                ("n", "ip_address", "198.51.100.0/24"),
                ("e", "ip_address", "198.51.100.1"),
            ],
            "deny",
            "198.51.100.1 1.1.1.1",
            "",
            true,
            "e n",
            "W18",
        ),
        (
            &[
                ("w", "ip_address", "198.0.0.0/8"),
                ("n", "ip_address", "198.51.0.0/16"),
            ],
            "deny",
            "198.51.100.1 1.1.1.1",
            "",
            true,
            "n w",
            "W18",
        ),
        (
            &[
                ("p", "ip_address", "1.2.3.4"),
                ("q", "ip_address", "1.2.3.4"),
            ],
            "deny",
            "1.2.3.4 1.1.1.1",
            "",
            true,
            "q p",
            "W18",
        ),
        (
            &[
                ("p", "ip_address", "1.2.3.4"),
                ("q", "ip_address", "1.2.3.4/32"),
            ],
            "deny",
            "1.2.3.4 1.1.1.1",
            "",
            true,
            "p q",
            "W18",
        ),
        (
            &[("b", "sip_user", "bob"), ("a", "sip_user", "alice")],
            "deny",
            call,
            "From: <sip:alice@x>|To: <sip:bob@x>",
            true,
            "a b",
            "",
        ),
        (
            &[("b", "sip_user", "bob"), ("a", "sip_user", "alice")],
            "deny",
            call,
            "To: <sip:bob@x>|From: <sip:alice@x>",
            true,
            "a b",
            "",
        ),
        (
            &[("x", "sip_user", "al"), ("y", "sip_user", "alice")],
            "deny",
            call,
            "From: <sip:alice@x>",
            true,
            "x y",
            "",
        ),
        (
            &[
                ("p", "phone_number", "4912345678901"),
                ("u", "sip_user", "49123"),
                ("r", "sip_uri", "@x"),
            ],
            "deny",
            call,
            long,
            true,
            "u p r",
            "",
        ),
        (
            &[
                ("l", "phone_number", "004912345678901"),
                ("s", "phone_number", "12345678901"),
            ],
            "deny",
            call,
            "From: <sip:004912345678901@x>",
            true,
            "l s",
            "W19",
        ),
        (
            &[
                ("s", "phone_number", "12345678901"),
                ("l", "phone_number", "4912345678901"),
                ("m", "phone_number", "4912345678901"),
                ("r", "sip_uri", "@x"),
            ],
            "deny",
            call,
            long,
            true,
            "m r s l",
            "W19",
        ),
        (
            &[("m", "imsi", "262011234567890"), ("u", "sip_user", "alice")],
            "deny",
            call,
            ims,
            true,
            "m u",
            "",
        ),
        (
            &[
                ("m", "imsi", "262011234567890"),
                ("n", "imsi", "26201-1234567890"),
            ],
            "deny",
            call,
            ims,
            true,
            "n m",
            "W19",
        ),
        (
            &[("u", "sip_user", "alice")],
            "allow",
            other,
            "",
            false,
            "",
            "",
        ),
        (
            &[("u", "sip_user", "alice"), ("v", "sip_uri", "alice")],
            "deny",
            call,
            "From: <sip:alice@x>|To: <sip:alice@x>",
            true,
            "u v",
            "",
        ),
        (
            &[("n", "phone_number", "12345")],
            "allow",
            other,
            "",
            false,
            "",
            "",
        ),
    ];
    for (filters, policy, addresses, headers, forwarded, expected, weakness) in rows {
        let policy = if policy == "allow" {
            NoFilterPolicy::Allow
        } else {
            NoFilterPolicy::Deny
        };
        let (set, _) = compile(filters, policy);
        let address = |text: &str| Addr::V4(text.parse::<std::net::Ipv4Addr>().unwrap().to_bits());
        let addresses = addresses
            .split_once(' ')
            .map(|(source, destination)| (address(source), address(destination)));
        let mut fields = Fields::default();
        if !headers.is_empty() {
            extract(
                Transport::Udp,
                sip(headers).as_bytes(),
                set.wanted(),
                &mut fields,
            );
        }
        let (verdict, ids) = ids(&set, addresses, &fields);
        assert_eq!(
            (verdict.priority().is_some(), ids.join(" ").as_str()),
            (forwarded, expected),
            "{filters:?} {weakness}"
        );
    }
}

/// What the reference's manual says of `phone_number`, with its weaknesses mended.
fn naive_phone(pattern: &str, user: &str) -> bool {
    let (leading, trailing) = (
        pattern.starts_with('*'),
        pattern.len() > 1 && pattern.ends_with('*'),
    );
    let text = pattern.trim_matches('*');
    let digits: String = user
        .split(['@', ';', '?'])
        .next()
        .unwrap()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    let is_number = !text.is_empty() && text.chars().all(|one| one.is_ascii_digit());
    match (leading, trailing) {
        (false, false) if is_number => text.len() >= 10 && digits.ends_with(text),
        (true, true) if is_number => digits.contains(text),
        (true, false) if !text.is_empty() => user.ends_with(text),
        (false, true) if !text.is_empty() => user.starts_with(text),
        _ => user.contains(text),
    }
}

proptest! {
    #[test]
    fn telephone_numbers_match_as_a_naive_reading_says(
        patterns in prop::collection::vec(("\\*?", "\\+?[12]{0,3}|[12]{9,12}|[12x]{0,4}", "\\*?"), 1..30),
        user in "\\+?[12]{0,4}|[12-]{9,15}(;x=1)?|[12x;]{0,8}",
    ) {
        let patterns: Vec<String> = patterns.into_iter().map(|(leading, text, trailing)| leading + &text + &trailing).collect();
        let names: Vec<String> = (0..patterns.len()).map(|n| format!("{n:03}")).collect();
        let rows: Vec<Row<'_>> = names.iter().zip(&patterns).map(|(id, pattern)| (id.as_str(), "phone_number", pattern.as_str())).collect();
        let (set, _) = compile(&rows, NoFilterPolicy::Deny);
        let mut fields = Fields::default();
        fields.push(Kind::SipUser, user.as_bytes());
        let mut found = ids(&set, None, &fields).1;
        found.sort();
        let expected: Vec<String> = names.iter().zip(&patterns).filter(|(_, pattern)| naive_phone(pattern, &user)).map(|(id, _)| id.clone()).collect();
        prop_assert_eq!(found, expected, "{:?} {}", patterns, user);
    }
}

/// Affix patterns, read star by star.
fn naive_affix(pattern: &str, value: &str) -> bool {
    let mut text: Vec<(char, bool)> = Vec::new();
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if letters.peek() == Some(&'*') => text.push(('*', letters.next().is_none())),
            '*' => text.push(('*', true)),
            letter => text.push((letter, false)),
        }
    }
    let star = Some(&('*', true));
    let (leading, trailing) = (text.first() == star, text.last() == star);
    let text = &text[usize::from(leading)..];
    let text = &text[..text.len() - usize::from(trailing && !text.is_empty())];
    let text: String = text
        .iter()
        .map(|(letter, _)| letter.to_ascii_lowercase())
        .collect();
    let value = value.to_lowercase();
    match (leading, trailing) {
        (true, false) => value.ends_with(&text),
        (false, true) => value.starts_with(&text),
        _ => value.contains(&text),
    }
}

/// Globs, letter by letter.
fn naive_glob(pattern: &[u8], value: &[u8]) -> bool {
    match pattern.split_first() {
        None => value.is_empty(),
        Some((b'*', rest)) => (0..=value.len()).any(|skip| naive_glob(rest, &value[skip..])),
        Some((letter, rest)) => {
            let first = value.first().map(u8::to_ascii_lowercase);
            first == Some(letter.to_ascii_lowercase()) && naive_glob(rest, &value[1..])
        }
    }
}

/// Addresses and prefixes, bit by bit; an address that is mapped into IPv6 is the one that it stands for.
fn naive_address(pattern: &str, value: &str) -> bool {
    let bits = |text: &str| match text.parse().unwrap() {
        std::net::IpAddr::V4(address) => format!("4{:032b}", address.to_bits()),
        std::net::IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => format!("4{:032b}", address.to_bits()),
            None => format!("6{:0128b}", address.to_bits()),
        },
    };
    let (address, len) = pattern.split_once('/').unwrap_or((pattern, "128"));
    let address = bits(address);
    let is_mapped = pattern.starts_with("::ffff:");
    let len = len.parse::<usize>().unwrap() - if is_mapped { 96 } else { 0 };
    bits(value).starts_with(&address[..(1 + len).min(address.len())])
}

fn naive_digits(pattern: &str, value: &str, lengths: &[usize], compared: usize) -> bool {
    let digits: String = pattern.chars().filter(char::is_ascii_digit).collect();
    lengths.contains(&digits.len()) && digits[..compared] == value[..compared]
}

/// Whether a filter matches a value, by the plainest reading of the rules.
fn naive(kind: &str, pattern: &str, value: &str) -> bool {
    let is_hex = |text: &str| text.len() == 32 && text.chars().all(|one| one.is_ascii_hexdigit());
    match kind {
        "ip_address" => naive_address(pattern, value),
        "phone_number" => naive_phone(pattern, value),
        "sip_user" | "sip_uri" => naive_affix(pattern, value),
        "imsi" => naive_digits(pattern, value, &[15], 15),
        "imei" => naive_digits(pattern, value, &[14, 15], 14),
        "tls_ja3" | "tls_ja3s" => {
            is_hex(pattern.trim()) && pattern.trim().eq_ignore_ascii_case(value)
        }
        "tls_ja4" => pattern.trim() == value,
        _ => naive_glob(pattern.as_bytes(), value.as_bytes()),
    }
}

const FIELDS: [(&str, Kind); 15] = [
    ("sip_user", Kind::SipUser),
    ("sip_uri", Kind::SipUri),
    ("call_id", Kind::CallId),
    ("codec", Kind::Codec),
    ("dns_domain", Kind::DnsName),
    ("email_address", Kind::EmailAddress),
    ("email_subject", Kind::EmailSubject),
    ("tls_sni", Kind::TlsSni),
    ("tls_ja3", Kind::TlsJa3),
    ("tls_ja3s", Kind::TlsJa3s),
    ("tls_ja4", Kind::TlsJa4),
    ("http_host", Kind::HttpHost),
    ("http_url", Kind::HttpUrl),
    ("imsi", Kind::Imsi),
    ("imei", Kind::Imei),
];

/// Patterns that often match the values of [`value_of`].
fn pattern_of(kind: &'static str) -> BoxedStrategy<String> {
    match kind {
        "ip_address" => prop_oneof![
            (0_u8..4, 28_u8..=32).prop_map(|(last, len)| format!("10.0.0.{last}/{len}")),
            (0_u8..4).prop_map(|last| format!("10.0.0.{last}")),
            (0_u8..4).prop_map(|last| format!("::ffff:10.0.0.{last}")),
            (0_u8..4, 124_u8..=128).prop_map(|(last, len)| format!("::ffff:10.0.0.{last}/{len}")),
            (0_u8..4, 0_u8..=128).prop_map(|(last, len)| format!("2001:db8::{last}/{len}")),
        ]
        .boxed(),
        "sip_user" | "sip_uri" => "(\\*|\\\\\\*)?[abAB]{0,3}(\\*|\\\\\\*)?".boxed(),
        "phone_number" => "\\*?\\+?[12]{0,3}\\*?|[12]{9,12}".boxed(),
        "imsi" => "[12]{1}-?1{12,13}[12]".boxed(),
        "imei" => "1{1}-?1{12}[12]{0,2}".boxed(),
        "tls_ja3" | "tls_ja3s" => " ?[aA]{30,31}[ab] ?".boxed(),
        "tls_ja4" => " ?t12d010100_[ab]{1}00000000000_000000000000 ?".boxed(),
        _ => "[abA*]{0,6}".boxed(),
    }
}

fn value_of(kind: &'static str) -> BoxedStrategy<String> {
    match kind {
        "ip_address" => prop_oneof![
            (0_u8..18).prop_map(|last| format!("10.0.0.{last}")),
            (0_u8..18).prop_map(|last| format!("2001:db8::{last}")),
        ]
        .boxed(),
        "phone_number" => "\\+?[12]{0,4}|[12]{9,13}".boxed(),
        "imsi" => "[12]1{13}[12]".boxed(),
        "imei" => "1{13}[12]".boxed(),
        "tls_ja3" | "tls_ja3s" => "a{31}[ab]".boxed(),
        "tls_ja4" => "t12d010100_[ab]{1}00000000000_000000000000".boxed(),
        _ => "[abAB*]{0,8}".boxed(),
    }
}

/// Some filters of every type but BPF, which acts in the capture.
fn filters_of_all_types() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let kinds: Vec<&'static str> = FIELDS
        .iter()
        .map(|(kind, _)| *kind)
        .chain(["ip_address", "phone_number"])
        .collect();
    let one = prop::sample::select(kinds)
        .prop_flat_map(|kind| pattern_of(kind).prop_map(move |pattern| (kind, pattern)));
    prop::collection::vec(one, 0..80)
}

proptest! {
    #[test]
    fn every_type_matches_as_a_naive_reading_says(
        filters in filters_of_all_types(),
        (number, value) in (0..FIELDS.len()).prop_flat_map(|number| (Just(number), value_of(FIELDS[number].0))),
        number_of_user in value_of("phone_number"),
        address in value_of("ip_address"),
    ) {
        let (kind, field) = FIELDS[number];
        let value = if kind == "sip_user" { value + &number_of_user } else { value };
        let names: Vec<String> = (0..filters.len()).map(|n| format!("{n:03}")).collect();
        let mut rows: Vec<Row<'_>> = names.iter().zip(&filters).map(|(id, (kind, pattern))| (id.as_str(), *kind, pattern.as_str())).collect();
        rows.push(("bpf", "bpf", "tcp"));
        rows.push(("-disabled", kind, "*"));
        let (set, _) = compile(&rows, NoFilterPolicy::Deny);
        let mut fields = Fields::default();
        fields.push(field, value.as_bytes());
        let source = match address.parse().unwrap() {
            std::net::IpAddr::V4(address) => Addr::V4(address.to_bits()),
            std::net::IpAddr::V6(address) => Addr::of_v6(address.to_bits()),
        };
        let mut found = ids(&set, Some((source, Addr::V4(0))), &fields).1;
        found.sort();
        let expected: Vec<String> = names
            .iter()
            .zip(&filters)
            .filter(|(_, (of, pattern))| match *of {
                "ip_address" => naive(of, pattern, &address) || naive_address(pattern, "0.0.0.0"),
                "phone_number" => kind == "sip_user" && naive(of, pattern, &value.to_lowercase()),
                of => of == kind && naive(of, pattern, &value),
            })
            .map(|(id, _)| id.clone())
            .collect();
        prop_assert_eq!(found, expected, "{} {:?} {:?}", kind, value, filters);
    }
}

/// Numbers as the processor stores them, a SIP user, whether they match. What a person entered has been rewritten by the processor, so
/// that some of these patterns match more than that person meant (W23).
#[test]
fn numbers_as_the_processor_stores_them() {
    for (stored, user, expected) in [
        ("49301234567", "+49301234567", true),
        ("49301234567", "0049301234567", true),
        ("49301234567", "9900049301234567", true),
        ("49301234567", "0301234567", false),
        ("49301234567", "301234567", false),
        ("0301234567", "0301234567", true),
        ("0301234567", "+49301234567", false),
        ("301234567", "+49301234567", false),
        ("*301234567", "+49301234567", true),
        ("*301234567", "0301234567", true),
        ("49*", "49301234567", true),
        ("49*", "+49301234567", false),
        ("49*", "0049301234567", false),
        ("15550100199", "+15550100199", true),
        ("34960000", "01134960000", false),
        ("*3149301234567", "*31#+49301234567", false),
        ("49567", "49301234567", false),
        ("123", "alice123", false),
        ("*", "whoever", true),
        ("", "whoever", true),
        ("**", "whoever", true),
    ] {
        let (set, refused) = compile(&[("f", "phone_number", stored)], NoFilterPolicy::Deny);
        assert_eq!(refused, []);
        let mut fields = Fields::default();
        fields.push(Kind::SipUser, user.as_bytes());
        let matched = ids(&set, None, &fields).0 == Verdict::Matched;
        assert_eq!(matched, expected, "{stored} {user}");
    }
}

#[test]
fn addresses_count_inside_and_outside_of_tunnels() {
    let rows = [
        ("inner", "ip_address", "10.0.0.1"),
        ("outer", "ip_address", "192.0.2.0/24"),
        ("neither", "ip_address", "172.16.0.1"),
    ];
    let (set, _) = compile(&rows, NoFilterPolicy::Deny);
    let address = |text: &str| Addr::V4(text.parse::<std::net::Ipv4Addr>().unwrap().into());
    let inner = Some((address("10.0.0.9"), address("10.0.0.1")));
    let outer = Some((address("192.0.2.7"), address("198.51.100.1")));
    for (addresses, outer, expected) in [
        (inner, outer, &["inner", "outer"][..]),
        (inner, None, &["inner"]),
        (outer, inner, &["outer", "inner"]),
    ] {
        let decoded = Decoded {
            addresses,
            outer,
            ..Decoded::default()
        };
        let mut matches = Matches::default();
        set.judge(&decoded, &Fields::default(), false, &mut matches);
        let found: Vec<_> = matches.filters().iter().map(|id| set.id(*id)).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_batch_is_compared_as_its_packets_are_one_by_one() {
    let (set, _) = compile(
        &[("a", "dns_domain", "*.a"), ("b", "dns_domain", "x.*")],
        NoFilterPolicy::Deny,
    );
    let mut fields = Fields::default();
    for name in ["x.a", "x.b", "y.b", "y.a"] {
        fields.push(Kind::DnsName, name.as_bytes());
        fields.next_packet();
    }
    let mut matches = Matches::default();
    set.search(&fields, &mut matches);
    let hits: Vec<_> = matches
        .hits()
        .iter()
        .map(|hit| (hit.packet, set.id(hit.filter)))
        .collect();
    assert_eq!(hits, [(0, "a"), (0, "b"), (1, "b"), (3, "a")]);
}

#[test]
fn more_filters_than_a_message_has_room_for_are_counted() {
    let names: Vec<_> = (0..1_100).map(|n| format!("f{n}")).collect();
    let rows: Vec<Row<'_>> = names
        .iter()
        .map(|id| (id.as_str(), "dns_domain", "*.a"))
        .collect();
    let (set, _) = compile(&rows, NoFilterPolicy::Deny);
    let (mut fields, mut matches) = (Fields::default(), Matches::default());
    fields.push(Kind::DnsName, b"x.a");
    fields.push(Kind::DnsName, b"y.a");
    set.judge(&Decoded::default(), &fields, false, &mut matches);
    assert_eq!((matches.filters().len(), matches.left_out()), (1_024, 76));
}

#[test]
fn patterns_have_no_more_memory_than_is_theirs() {
    let text = format!("*{}*", "x".repeat(60_000));
    let filters = (0..200).map(|n| Filter {
        id: n.to_string(),
        filter_type: 7,
        pattern: format!("*{n}{text}"),
        enabled: true,
    });
    let (set, refused) = FilterSet::compile(
        &Snapshot {
            generation: 1,
            filters: filters.collect(),
        },
        NoFilterPolicy::Deny,
    );
    assert!(refused.iter().all(|one| one.reason == Reason::NoRoom));
    assert!((1..199).contains(&refused.len()), "{}", refused.len());
    assert!(set.wanted().has(Kind::DnsName));
}

const SIP_USER: &[(&str, &str, bool, &str)] = &[
    (
        "alicent",
        "From: Alicent <sip:alicent@example.com>",
        true,
        "",
    ),
    (
        "robb",
        "From: <sip:charlie@example.com>|To: Robb <sip:robb@example.com>",
        true,
        "",
    ),
    ("alicent", "From: <sip:ALICENT@example.com>", true, ""),
    ("alice*", "From: <sip:alice.smith@example.com>", true, ""),
    ("alice*", "From: <sip:bob.alice@example.com>", false, ""),
    ("admin", "From: <sip:sysadmin@domain.com>", true, ""),
    ("*admin*", "From: <sip:sysadmin123@domain.com>", true, ""),
    ("robb", "From: <sip:robby@example.com>", true, ""),
    (
        "alicent",
        "From: Alicent Smith <sip:asmith@example.com>",
        false,
        "",
    ),
    (
        "alicent",
        "From: <sips:alicent@secure.example.com>",
        true,
        "",
    ),
    ("\\*31#", "From: <sip:*31#123456789@domain.com>", true, ""),
    ("\\*31#*", "From: <sip:*31#+49123456@x>", true, ""),
    ("*\\*31#", "From: <sip:suppress*31#@x>", true, ""),
    ("*456789", "From: <sip:0049123456789@domain.com>", true, ""),
    ("*456789", "From: <sip:+49123456000@domain.com>", false, ""),
    ("carol", "P-Preferred-Identity: <sip:carol@b>", true, ""),
    ("carol", "P-Called-Party-ID: <sip:carol@b>", true, ""),
    ("carol", "Contact: <sip:carol@b>", false, ""),
    ("carol", "Diversion: <sip:carol@b>", false, ""),
    ("svc", "From: <sip:a@b>", true, ""),
    ("al*ce", "From: <sip:alice@b>", false, ""),
    ("al*ce", "From: <sip:al*ce@b>", true, ""),
    ("alice@b", "From: <sip:alice@b>", false, ""),
    ("carol", "From: <sip:carol>", false, ""),
    ("*", "From: <sip:anyone@b>", true, ""),
    ("carol", "f: <sip:carol@b>", true, ""),
    ("carol", "t: <sip:carol@b>", true, ""),
    ("carol", "From : <sip:carol@b>", true, "W16"),
    ("carol", "From: <SIP:carol@b>", true, "W15"),
    (
        "alice",
        "P-Asserted-Identity: <sip:alice@b>|P-Asserted-Identity: <sip:bob@b>",
        true,
        "W17",
    ),
    (
        "bob",
        "P-Asserted-Identity: <sip:alice@b>, <sip:bob@b>",
        true,
        "W17",
    ),
    ("bob", "From: \"sip:alice@z\" <sip:bob@b>", true, "W17"),
    (
        "alicent",
        "INVITE sip:someone@example.com SIP/2.0|From: <sip:unknown@example.com>||v=0|o=alicent 1 1 IN IP4 1.1.1.1|",
        false,
        "",
    ),
    (
        "bob",
        "SIP/2.0 200 OK|From: <sip:a@b>|To: <sip:bob@b>",
        true,
        "",
    ),
];

const PHONE_NUMBER: &[(&str, &str, bool, &str)] = &[
    (
        "49123456789",
        "From: <sip:+49123456789@carrier.com>",
        true,
        "",
    ),
    (
        "49123456789",
        "From: <sip:0049123456789@carrier.com>",
        true,
        "",
    ),
    (
        "49123456789",
        "From: <sip:+49111111111@carrier.com>",
        false,
        "",
    ),
    ("1234567890", "From: <sip:7581234567890@x>", true, ""),
    ("1234567890", "From: <sip:1234567899@x>", false, ""),
    ("1234567890", "From: <sip:12345678@x>", false, ""),
    ("123456789", "From: <sip:123456789@x>", false, ""),
    ("*456789", "From: <sip:+49123456789@c>", true, ""),
    ("*456789", "From: <sip:*31#+49123456789@c>", true, ""),
    ("*456789", "From: <sip:+49123456000@c>", false, ""),
    ("+4415777", "From: <sip:+4415777@carrier.com>", true, ""),
    ("+4912345678901", "From: <sip:004912345678901@x>", false, ""),
    ("4912345678901", "From: <sip:012345678901@x>", false, ""),
    ("4912345678901", "From: <sip:+49-123-456-78901@x>", true, ""),
    (
        "4912345678901",
        "From: <sip:+4912345678901;phone-context=+1@x>",
        true,
        "",
    ),
    (
        "*5678901",
        "From: <sip:+4912345678901;phone-context=+1@x>",
        false,
        "",
    ),
    ("1234567890", "From: <sip:1a2b3c4d5e6f7g8h9i0@x>", true, ""),
    ("4912*", "From: <sip:4912345@x>", true, ""),
    ("4912*", "From: <sip:+4912345@x>", false, ""),
    (
        "*4912345678901*",
        "From: <sip:49123456789015@x>",
        true,
        "W20",
    ),
    ("4912345678901", "From: <tel:+4912345678901>", true, "W14"),
];

const SIP_URI: &[(&str, &str, bool, &str)] = &[
    (
        "alice@example.com",
        "From: Alice <sip:alice@example.com>",
        true,
        "",
    ),
    (
        "*@carrier.com",
        "From: <sip:+4912345@carrier.com>",
        true,
        "",
    ),
    (
        "alice@example.com",
        "From: <sip:alice@different.com>",
        false,
        "",
    ),
    (
        "+49123456789@carrier.com",
        "From: <sip:+49123456789@different-carrier.com>",
        false,
        "",
    ),
    ("ALICE@B.ORG", "From: <sip:alice@b.org>", true, ""),
    ("b.org", "From: <sip:alice@b.org>", true, ""),
    ("lice@b.or", "From: <sip:alice@b.org>", true, ""),
    ("alice@b.org", "From: <sip:alice@b.org:5060>", true, ""),
    ("*@b.org", "From: <sip:alice@b.org:5060>", false, ""),
    (
        "*@b.org",
        "From: <sip:alice@b.org;transport=tcp>",
        false,
        "",
    ),
    ("*@b.org", "From: sip:alice@b.org;tag=1", true, ""),
    ("*@example.com", "From: <sip:USER@EXAMPLE.COM>", true, ""),
    (
        "*@example.com",
        "From: <sip:user@example.com extra>",
        false,
        "",
    ),
    ("sip:alice@b.org", "From: <sip:alice@b.org>", false, ""),
    ("a*@b.org", "From: <sip:alice@b.org>", false, ""),
    ("svc@proxy.example", "From: <sip:a@b>", true, ""),
    ("tel:+491", "From: <tel:+4912>", true, ""),
    ("b.org", "From: <sip:b.org>", true, ""),
];

const IMSI: &[(&str, &str, bool, &str)] = &[
    (
        "262011234567890",
        "Authorization: Digest username=\"262011234567890@ims.mnc001.mcc262.3gppnetwork.org\", realm=\"x\"",
        true,
        "",
    ),
    (
        "262011234567890",
        "Authorization: Digest username=262011234567890@ims.mnc001.mcc262.3gppnetwork.org, realm=\"x\"",
        true,
        "",
    ),
    (
        "262011234567890",
        "Authorization: Digest USERNAME=\"262011234567890@IMS.MNC001.MCC262.3GPPNETWORK.ORG\"",
        true,
        "",
    ),
    (
        "262-01-1234567890",
        "Authorization: Digest username=\"262011234567890@ims.mnc001.mcc262.3gppnetwork.org\"",
        true,
        "",
    ),
    (
        "262011234567890",
        "P-Asserted-Identity: sip:262011234567890@ims.mnc001.mcc262.3gppnetwork.org",
        true,
        "",
    ),
    (
        "262011234567890",
        "P-Asserted-Identity: <sip:262011234567890@ims.mnc001.mcc262.3gppnetwork.org>",
        true,
        "W24",
    ),
    (
        "262011234567890",
        "Proxy-Authorization: Digest username=\"262011234567890@ims.mnc001.mcc262.3gppnetwork.org\"",
        false,
        "",
    ),
    (
        "262011234567890",
        "From: <sip:262011234567890@ims.mnc001.mcc262.3gppnetwork.org>",
        false,
        "",
    ),
    (
        "262011234567890",
        "P-Asserted-Identity: sip:262011234567890@carrier.com",
        false,
        "",
    ),
    (
        "262011234567890",
        "P-Asserted-Identity: sip:262011234567890@foo.mnc01.lab",
        true,
        "",
    ),
    (
        "262011234567890",
        "Authorization: Digest username=\"2620112345678@ims.mnc001.mcc262.3gppnetwork.org\"",
        false,
        "",
    ),
    (
        "26201123456789",
        "Authorization: Digest username=\"262011234567890@ims.mnc001.mcc262.3gppnetwork.org\"",
        false,
        "",
    ),
    (
        "26201*",
        "Authorization: Digest username=\"262011234567890@ims.mnc001.mcc262.3gppnetwork.org\"",
        false,
        "",
    ),
];

const IMEI: &[(&str, &str, bool, &str)] = &[
    (
        "353456789012340",
        "Contact: <sip:a@b>;+sip.instance=\"<urn:gsma:imei:35345678-901234-0>\"",
        true,
        "",
    ),
    (
        "35345678901234",
        "Contact: <sip:a@b>;+sip.instance=\"<urn:gsma:imei:35345678-901234-0>\"",
        true,
        "",
    ),
    (
        "35-345678-901234-0",
        "Contact: <sip:a@b>;+sip.instance=\"<urn:gsma:imei:35345678-901234-0>\"",
        true,
        "",
    ),
    (
        "353456789012347",
        "Contact: <sip:a@b>;+sip.instance=\"<urn:gsma:imei:35345678-901234-0>\"",
        true,
        "W25",
    ),
    (
        "353456789012340",
        "Contact: <sip:a@b>;+sip.instance=\"<urn:urn-7:3gpp-imei:35345678-901234-0>\"",
        true,
        "",
    ),
    (
        "353456789012340",
        "m: <sip:a@b>;+SIP.INSTANCE=\"<URN:GSMA:imei:35345678-901234-0>\"",
        true,
        "",
    ),
    (
        "353456789012340",
        "Contact: <sip:a@b>;+sip.instance=\"<urn:gsma:imei:35345678-901234-0;svn=02>\"",
        true,
        "",
    ),
    (
        "35345678901234",
        "Contact: <sip:a@b>;+sip.instance=\"<urn:gsma:imei:35345678-901234>\"",
        true,
        "W25",
    ),
    (
        "353456789012345",
        "Contact: <sip:a@b>;+sip.instance=\"<urn:gsma:imei:35345678-9012345-0>\"",
        false,
        "",
    ),
    (
        "353456789012340",
        "Contact: <sip:a@b>;+sip.instance=\"<urn:uuid:35345678-9012-3400-0000-000000000000>\"",
        false,
        "",
    ),
    (
        "353456789012340",
        "X-Contact: <sip:a@b>;+sip.instance=\"<urn:gsma:imei:35345678-901234-0>\"",
        false,
        "",
    ),
];
