//! Fields that workers extract from single packets, against what TShark says of the same captures.
//!
//! Each field that is found where TShark names its frame must be the one that TShark found. What stands in more than one packet, or in a
//! tunnel, is not extracted, so not everything is found; how much is, has a lower bound.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use lc_tests::capture;
use lc_tests::traces::{self, Trace};
use lc_workerd::decode::decode;
use lc_workerd::extract::extract;
use lc_workerd::matcher::{Fields, Kind, Kinds};
use serde_json::Value;

/// A capture, and the fields of each of its packets.
struct Case {
    trace: Trace,
    packets: Vec<Vec<(Kind, String)>>,
}

/// The captures of one subject; `None` without a collection.
fn cases(subject: &str) -> Option<Vec<Case>> {
    let case = |trace: Trace| Case {
        packets: trace.packets().unwrap().iter().map(fields).collect(),
        trace,
    };
    let traces = traces::of(&[subject]).unwrap()?;
    Some(traces.into_iter().map(case).collect())
}

impl Case {
    fn texts(&self, kind: Kind) -> BTreeSet<&str> {
        let all = self.packets.iter().flatten();
        all.filter(|(one, _)| *one == kind)
            .map(|(_, text)| text.as_str())
            .collect()
    }
}

fn fields(packet: &capture::Packet) -> Vec<(Kind, String)> {
    let decoded = decode(packet.link_type as u16, &packet.bytes);
    let mut fields = Fields::default();
    if let (Some(transport), true) = (decoded.transport, decoded.payload > 0) {
        extract(
            transport,
            &packet.bytes[decoded.payload..],
            Kinds::ALL,
            &mut fields,
        );
    }
    let text = |text| String::from_utf8_lossy(text).into_owned();
    fields
        .iter()
        .map(|(_, kind, value)| (kind, text(value)))
        .collect()
}

fn list<'a>(facts: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    facts
        .pointer(path)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// Compares sets over all captures, and counts (found, named by TShark).
fn compare(
    cases: &[Case],
    kind: Kind,
    named: impl Fn(&Value) -> BTreeSet<String>,
) -> (usize, usize) {
    let (mut found, mut all) = (0, 0);
    for case in cases {
        let named = named(&case.trace.facts);
        let texts = case.texts(kind);
        found += named
            .iter()
            .filter(|text| texts.contains(text.as_str()))
            .count();
        all += named.len();
    }
    (found, all)
}

#[test]
fn tls_hellos() {
    let Some(cases) = cases("tls") else {
        return;
    };
    let (mut found, mut all) = (0, 0);
    for case in &cases {
        for (path, kinds) in [
            (
                "/tls/client_hello_list",
                [
                    ("sni", Kind::TlsSni),
                    ("ja3", Kind::TlsJa3),
                    ("ja4", Kind::TlsJa4),
                ]
                .as_slice(),
            ),
            ("/tls/server_hello_list", &[("ja3s", Kind::TlsJa3s)]),
        ] {
            let of_tcp = list(&case.trace.facts, path).filter(|hello| hello["transport"] == "tcp");
            for hello in of_tcp {
                all += 1;
                let Some(fields) = hello["frame"]
                    .as_u64()
                    .and_then(|frame| case.packets.get(frame as usize - 1))
                else {
                    continue;
                };
                found += usize::from(!fields.is_empty());
                for (key, kind) in kinds {
                    let of_kind: Vec<_> = fields
                        .iter()
                        .filter(|(one, _)| one == kind)
                        .map(|(_, text)| text)
                        .collect();
                    let accepted: Vec<&Value> = match &hello["ja4_accept"] {
                        Value::Array(list) if *kind == Kind::TlsJa4 => list.iter().collect(),
                        _ => vec![&hello[key]],
                    };
                    if let Some(text) = of_kind.first() {
                        let is_right = accepted.iter().any(|one| {
                            one.as_str()
                                .is_some_and(|one| one.eq_ignore_ascii_case(text))
                        });
                        assert!(
                            is_right,
                            "{} frame {} {key}: {text}, not {accepted:?}",
                            case.trace.name(),
                            hello["frame"]
                        );
                    }
                }
            }
        }
    }
    println!("{found} of {all} hellos");
    assert!(found * 10 > all * 7, "{found} of {all}");
}

#[test]
fn names_hosts_users_and_addresses() {
    let strings = |facts: &Value, path: &str, key: &str| -> BTreeSet<String> {
        list(facts, path)
            .filter_map(|one| {
                if key.is_empty() {
                    one.as_str()
                } else {
                    one[key].as_str()
                }
            })
            .filter(|text| !text.is_empty())
            .map(|text| {
                match text
                    .split_once('<')
                    .and_then(|(_, rest)| rest.split_once('>'))
                {
                    Some((address, _)) => address.to_lowercase(),
                    None => text.to_lowercase(),
                }
            })
            .collect()
    };
    for (folder, kind, path, key, least) in [
        ("dns", Kind::DnsName, "/dns/questions", "name", 80),
        ("voip", Kind::SipUser, "/sip/dialogs", "from_user", 80),
        ("voip", Kind::SipUser, "/sip/dialogs", "to_user", 80),
        ("http", Kind::HttpHost, "/http/hosts", "", 80),
        ("email", Kind::EmailAddress, "/smtp/mail_from", "", 80),
        ("email", Kind::EmailAddress, "/smtp/rcpt_to", "", 80),
    ] {
        let Some(cases) = cases(folder) else {
            return;
        };
        let (found, all) = compare(&cases, kind, |facts| strings(facts, path, key));
        println!("{path} {key}: {found} of {all}");
        assert!(
            all > 0 && found * 100 >= all * least,
            "{path} {key}: {found} of {all}"
        );
    }
}
