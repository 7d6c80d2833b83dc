//! Detection over real captures, against the protocols that TShark found in their flows.
//!
//! The captures are read from the folder that `LC_HUNT_TRACES` names, by default
//! `../../shared/traces` beside the repository; without it the test is skipped. A flow is
//! contradicted when it gets a protocol that TShark doesn't see in it, and missed when TShark sees a
//! protocol that can be detected and none is found.

#![allow(clippy::unwrap_used)]

use lc_workerd::decode::{Addr, decode};
use lc_workerd::detect::{Context, Details, Detector, Flow, Layer};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

type End = (Addr, u16);
type Key = (Layer, [End; 2]);

/// Names of ours that stand for a name of TShark's.
const NAMES: &[(&str, &[&str])] = &[
    ("sip", &["SIP"]),
    ("rtp", &["RTP", "SRTP"]),
    ("srtp", &["SRTP", "RTP"]),
    ("rtcp", &["RTCP", "RTP", "SRTP"]),
    ("t38", &["T.38", "RTP"]),
    ("stun", &["STUN", "TURN", "RTP", "SRTP", "RTCP"]),
    ("turn", &["STUN", "TURN"]),
    ("dtls", &["DTLS", "SRTP"]),
    ("dns", &["DNS"]),
    ("mdns", &["DNS"]),
    ("llmnr", &["DNS"]),
    ("http", &["HTTP", "WebSocket"]),
    ("ssdp", &["SSDP", "HTTP"]),
    ("websocket", &["WebSocket"]),
    ("http2", &["HTTP2", "gRPC"]),
    ("grpc", &["HTTP2", "gRPC"]),
    ("tls", &["TLS", "QUIC"]),
    ("quic", &["QUIC"]),
    ("smtp", &["SMTP", "TLS"]),
    ("imap", &["IMAP", "TLS"]),
    ("pop", &["POP3", "TLS"]),
    ("ftp", &["FTP", "TLS"]),
    ("telnet", &["Telnet"]),
    ("ssh", &["SSH"]),
    ("mysql", &["MySQL", "TLS"]),
    ("pgsql", &["PostgreSQL", "TLS"]),
    ("mongo", &["MongoDB"]),
    ("resp", &["Redis"]),
    ("snmp", &["SNMP"]),
    ("ntp", &["NTP"]),
    ("dhcp", &["DHCP", "BOOTP"]),
    ("isakmp", &["IKEv1", "IKEv2"]),
    ("openvpn", &["OpenVPN"]),
    ("wg", &["WireGuard"]),
    ("l2tp", &["L2TP"]),
    ("pptp", &["PPTP"]),
    ("radius", &["RADIUS"]),
    ("diameter", &["Diameter"]),
    ("gtp", &["GTP-U", "GTP-C"]),
    ("gtpv2", &["GTP-C"]),
    ("vxlan", &["VXLAN"]),
    ("mgcp", &["MGCP"]),
    ("megaco", &["Megaco"]),
    ("rtsp", &["RTSP"]),
    ("msrp", &["MSRP"]),
    ("m3ua", &["M3UA"]),
    ("kerberos", &["Kerberos"]),
    ("ldap", &["LDAP", "TLS"]),
    ("cldap", &["LDAP"]),
    ("smb", &["SMB"]),
    ("smb2", &["SMB"]),
    ("rdp", &["RDP", "TLS"]),
    ("mqtt", &["MQTT"]),
    ("nfs", &["NFS"]),
    ("bgp", &["BGP"]),
];

/// Flows that carry what is found in them though TShark, which goes by port first, says otherwise;
/// by capture and our name.
const RIGHT: &[(&str, &str)] = &[
    // HTTP on port 22.
    ("http-single-conn-22.pcap", "HTTP"),
    // DNS over QUIC, on DTLS's port.
    ("quicdoq.pcap", "QUIC"),
    // Its first packet is SNMP on port 53.
    ("dns-junk-first.pcap", "SNMP"),
    // Media follows on the ports of STUN.
    ("stun_classic.pcap", "RTP"),
    // Replies are shown without their program.
    ("nfsv3.pcap", "NFS"),
    // SSH on ports of others.
    ("ssh_kex_mlkem.pcap", "SSH"),
    ("ssl-and-ssh-using-sslh.pcap", "SSH"),
    // Bytes changed at random make a DNS response on another port.
    ("derived-fuzz-sip.pcap", "DNS"),
    // TLS behind STARTTLS of a protocol without a signature, and TLS on port 80.
    ("irc-starttls.pcap", "TLS"),
    ("tls-to-http-server.pcap", "TLS"),
];

#[test]
fn captures_hold_what_is_found_in_them() {
    let folder = std::env::var_os("LC_HUNT_TRACES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/traces")),
        PathBuf::from,
    );
    let Ok(folders) = std::fs::read_dir(&folder) else {
        lc_tests::skipped!("no captures in {}", folder.display());
        return;
    };
    let mut tally = Tally::default();
    for folder in folders.flatten().filter(|entry| entry.path().is_dir()) {
        for entry in std::fs::read_dir(folder.path()).unwrap().flatten() {
            if let Some(name) = entry
                .path()
                .to_str()
                .unwrap()
                .strip_suffix(".expected.json")
            {
                check(Path::new(name), &mut tally);
            }
        }
    }
    for (app, [found, all]) in &tally.apps {
        println!("{app}: {found} of {all}");
    }
    for line in &tally.missed {
        println!("missed {line}");
    }
    let contradicted = tally.contradicted.join("\n");
    assert!(contradicted.is_empty(), "contradicted:\n{contradicted}");
    let [found, all] = tally
        .apps
        .values()
        .fold([0; 2], |[found, all], app| [found + app[0], all + app[1]]);
    assert!(found * 100 >= all * 95, "{found} of {all} flows");
}

#[derive(Default)]
struct Tally {
    /// Flows found and flows there, by TShark's name.
    apps: BTreeMap<String, [usize; 2]>,
    missed: Vec<String>,
    contradicted: Vec<String>,
}

fn check(capture: &Path, tally: &mut Tally) {
    let facts = std::fs::read_to_string(format!("{}.expected.json", capture.display())).unwrap();
    let facts: Value = serde_json::from_str(&facts).unwrap();
    let Some(list) = facts["flows"]["list"].as_array() else {
        return;
    };
    let flows = observe(capture);
    for fact in list {
        let layer = match fact["l4"].as_str().unwrap() {
            "tcp" => Layer::Tcp,
            "udp" => Layer::Udp,
            _ => Layer::Sctp,
        };
        let ends = [
            end(&fact["a"], &fact["a_port"]),
            end(&fact["b"], &fact["b_port"]),
        ];
        let [Some(a), Some(b)] = ends else { continue };
        let Some((flow, _)) = flows.get(&key(layer, a, b)) else {
            continue;
        };
        let apps: Vec<&str> = fact["apps"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let ours = flow.verdict().map(|verdict| verdict.protocol.name());
        let known = NAMES.iter().filter(|(app, _)| apps.contains(app));
        let stands_for = known
            .clone()
            .any(|(_, names)| ours.is_some_and(|name| names.contains(&name)));
        if let Some((app, _)) = known.clone().next() {
            let count = tally.apps.entry((*app).to_owned()).or_default();
            count[0] += usize::from(stands_for);
            count[1] += 1;
        }
        let line = || {
            let name = capture.file_name().unwrap().to_str().unwrap();
            format!(
                "{name} {layer:?} {}:{} {}:{} {apps:?}: {ours:?}",
                fact["a"], fact["a_port"], fact["b"], fact["b_port"]
            )
        };
        let name = capture.file_name().unwrap().to_str().unwrap();
        let right = |name_of_ours| RIGHT.contains(&(name, name_of_ours));
        if ours.is_some() && !stands_for && !apps.is_empty() && !ours.is_some_and(right) {
            tally.contradicted.push(line());
        } else if ours.is_none() && known.count() > 0 {
            tally.missed.push(line());
        }
    }
}

/// The flows of a capture, with their first senders.
fn observe(capture: &Path) -> HashMap<Key, (Flow, End)> {
    let (mut detector, mut details) = (Detector::new(), Details::new());
    let mut flows = HashMap::new();
    let packets =
        lc_tests::capture::read(capture).map_or_else(|_| Vec::new(), |capture| capture.packets);
    for packet in packets {
        let decoded = decode(packet.link_type as u16, &packet.bytes);
        let Some(mut context) =
            Context::decoded(&decoded, &packet.bytes, true, packet.time_ns as u64)
        else {
            continue;
        };
        let source = (context.addresses.0, context.source_port);
        let destination = (context.addresses.1, context.destination_port);
        let (flow, first) = flows
            .entry(key(context.layer, source, destination))
            .or_insert((Flow::default(), source));
        context.forward = *first == source;
        detector.observe(&context, flow);
        detector.describe(&context, flow, &mut details);
    }
    flows
}

fn key(layer: Layer, a: End, b: End) -> Key {
    let mut ends = [a, b];
    ends.sort_by_key(|(address, port)| (format!("{address:?}"), *port));
    (layer, ends)
}

fn end(address: &Value, port: &Value) -> Option<End> {
    let address = match address.as_str()?.parse().ok()? {
        IpAddr::V4(address) => Addr::V4(address.to_bits()),
        IpAddr::V6(address) => Addr::of_v6(address.to_bits()),
    };
    Some((address, port.as_u64()? as u16))
}
