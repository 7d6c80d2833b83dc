//! Detection over real captures, against the protocols that TShark found in their flows.
//!
//! The captures are those of [`lc_tests::traces`]. A flow is contradicted when it gets a protocol that TShark doesn't see in it, and missed when TShark sees a
//! protocol that can be detected and none is found. The flows that are missed stand in a list with their
//! reasons; a flow that is found and listed fails the test too, so that the list stays true. Beside
//! flows, every protocol of a capture must be found somewhere in it: in tunnels, where TShark counts other flows,
//! too. Captures of broken input are read, but TShark's opinion of them counts for nothing.

#![allow(clippy::unwrap_used)]

use lc_tests::traces::{self, Trace};
use lc_workerd::decode::{Addr, arp, decode};
use lc_workerd::detect::{Context, Details, Detector, Flow, Layer};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

/// A capture, and names of TShark's.
type Within = (&'static str, &'static [&'static str]);
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
    ("pfcp", &["PFCP"]),
    ("vxlan", &["VXLAN"]),
    ("mgcp", &["MGCP"]),
    ("megaco", &["Megaco"]),
    ("h248", &["Megaco"]),
    ("rtsp", &["RTSP"]),
    ("msrp", &["MSRP"]),
    ("m3ua", &["M3UA"]),
    ("kerberos", &["Kerberos"]),
    ("ldap", &["LDAP", "TLS"]),
    ("cldap", &["LDAP"]),
    ("smb", &["SMB"]),
    ("smb2", &["SMB"]),
    ("rdpudp", &["RDP"]),
    ("rdp", &["RDP", "TLS"]),
    ("mqtt", &["MQTT"]),
    ("nfs", &["NFS"]),
    ("bgp", &["BGP"]),
];

/// Names of ours for what has no flow of ports, by TShark's names of layers.
const WITHOUT_PORTS: &[(&str, &str)] = &[("arp", "ARP"), ("icmp", "ICMP"), ("icmpv6", "ICMPv6")];

/// Flows that carry what is found in them though TShark, which goes by port first, says otherwise;
/// by capture and our name.
const RIGHT: &[(&str, &str)] = &[
    // HTTP on port 22.
    ("http-single-conn-22.pcap", "HTTP"),
    // DNS over QUIC, on DTLS's port.
    ("quicdoq.pcap", "QUIC"),
    // Media follows on the ports of STUN.
    ("stun_classic.pcap", "RTP"),
    // Replies are shown without their program.
    ("nfsv3.pcap", "NFS"),
    // SSH on ports of others.
    ("ssh_kex_mlkem.pcap", "SSH"),
    ("ssl-and-ssh-using-sslh.pcap", "SSH"),
    // TLS behind STARTTLS of a protocol without a signature, and TLS on port 80.
    ("irc-starttls.pcap", "TLS"),
    ("tls-to-http-server.pcap", "TLS"),
];

/// Flows in which nothing is found though TShark names a protocol: capture, TShark's name, their number
/// and why. Everything else must be found.
const MISSED: &[(&str, &str, usize, &str)] = &[
    (
        "dnscrypt-v2.pcap",
        "mdns",
        3,
        "DNSCrypt, which is encrypted, on the port of mDNS",
    ),
    (
        "ip4_fragments.pcap",
        "nfs",
        1,
        "replies alone, which name no program; the calls are fragments",
    ),
    (
        "pcapng-example.pcapng",
        "ssh",
        1,
        "the encrypted middle of a session",
    ),
    (
        "rdp2.pcap",
        "rdpudp",
        1,
        "the middle of a session of RDP over UDP",
    ),
    ("socks5-http-302-frag.pcap", "http", 1, "fragments"),
    ("teamviewer.pcap", "wg", 1, "TeamViewer's own protocol"),
];

/// Protocols that TShark sees in a capture, in flows that are none here, and that are found nowhere in it.
const NOWHERE: &[(&str, &[Within])] = &[
    (
        "in Geneve, which is opened for IP",
        &[("sv-geneve.pcap", &["arp"])],
    ),
    (
        "in metadata of Cisco within GRE, which are not opened",
        &[("various_gre.pcap", &["icmp"])],
    ),
    (
        "in CAPWAP, sFlow, or Teredo, which are not opened",
        &[
            ("gtp8_teredo.pcap", &["icmpv6"]),
            ("capwap_data.pcapng", &["tls"]),
            ("sflow.pcap", &["icmp"]),
            ("zeek-teredo.pcap", &["icmpv6"]),
        ],
    ),
    (
        "in a pseudowire of MPLS (RFC 4448) or a backbone bridge (IEEE 802.1ah), which are not opened",
        &[("MplsPackets.pcap", &["icmp"]), ("pbb.pcap", &["arp"])],
    ),
    (
        "on FDDI, Frame Relay or NFLOG, whose frames are not decoded",
        &[
            ("dns-inverse-query.pcap", &["dns"]),
            ("icmp-frame-relay.pcap", &["icmp"]),
            ("nflog-http.pcap", &["http"]),
        ],
    ),
    (
        "of address family 15, which is no system's IP",
        &[("null_loopback.pcap", &["dns"])],
    ),
    (
        "in fragments, which are not judged",
        &[
            ("frag_http_req.pcap", &["http"]),
            ("fragmented-1.pcap", &["ntp"]),
            ("ip6_fragments.pcap", &["mdns"]),
        ],
    ),
];

#[test]
fn captures_hold_what_is_found_in_them() {
    let Some(captures) = traces::all().unwrap() else {
        return;
    };
    let mut tally = Tally::default();
    for trace in &captures {
        check(trace, &mut tally);
    }
    for (app, [found, all]) in &tally.apps {
        println!("{app}: {found} of {all}");
    }
    println!("flows that are none here: {}", tally.elsewhere);
    assert_eq!(tally.contradicted, Vec::<String>::new(), "contradicted");
    let missed: BTreeMap<(String, String), usize> = MISSED
        .iter()
        .map(|(capture, app, count, _)| (((*capture).to_owned(), (*app).to_owned()), *count))
        .collect();
    assert_eq!(tally.missed, missed, "missed; see {:#?}", tally.lines);
    let nowhere: BTreeSet<(String, String)> = NOWHERE
        .iter()
        .flat_map(|(_, captures)| captures.iter())
        .flat_map(|(capture, apps)| apps.iter().map(|app| ((*capture).into(), (*app).into())))
        .collect();
    assert_eq!(tally.nowhere, nowhere, "found nowhere in their captures");
}

#[derive(Default)]
struct Tally {
    /// Flows found and flows there, by TShark's name.
    apps: BTreeMap<String, [usize; 2]>,
    /// Flows that TShark names by addresses of which no packet is a flow here.
    elsewhere: usize,
    /// By capture and TShark's name.
    missed: BTreeMap<(String, String), usize>,
    /// The missed flows in full.
    lines: Vec<String>,
    contradicted: Vec<String>,
    nowhere: BTreeSet<(String, String)>,
}

fn check(trace: &Trace, tally: &mut Tally) {
    let (name, facts) = (trace.name(), &trace.facts);
    let Observed { flows, found } = observe(trace);
    // Of broken input, TShark's opinion isn't a truth.
    if facts["use"] == "capture-only" {
        return;
    }
    let mut unmatched = BTreeSet::new();
    for fact in facts["flows"]["list"].as_array().into_iter().flatten() {
        let apps: Vec<&str> = fact["apps"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let known: Vec<_> = apps
            .iter()
            .filter_map(|app| NAMES.iter().find(|(name, _)| name == app))
            .collect();
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
            tally.elsewhere += 1;
            unmatched.insert(known);
            continue;
        };
        let ours = flow.verdict().map(|verdict| verdict.protocol.name());
        let stands_for = known
            .iter()
            .any(|(_, names)| ours.is_some_and(|name| names.contains(&name)));
        let right = ours.is_some_and(|ours| RIGHT.contains(&(name, ours)));
        if let Some((app, _)) = known.first() {
            let count = tally.apps.entry((*app).to_owned()).or_default();
            count[0] += usize::from(stands_for || right);
            count[1] += 1;
        }
        let line = || {
            format!(
                "{name} {layer:?} {}:{} {}:{} {apps:?}: {ours:?}",
                fact["a"], fact["a_port"], fact["b"], fact["b_port"]
            )
        };
        if ours.is_some() && !stands_for && !apps.is_empty() && !right {
            tally.contradicted.push(line());
        } else if let (None, Some((app, _))) = (ours, known.first()) {
            *tally
                .missed
                .entry((name.to_owned(), (*app).to_owned()))
                .or_default() += 1;
            tally.lines.push(line());
        }
    }
    for known in unmatched {
        let names = known.iter().flat_map(|(_, names)| names.iter());
        if let Some((app, _)) = known.first()
            && !names.clone().any(|name| found.contains(name))
        {
            tally.nowhere.insert((name.to_owned(), (*app).to_owned()));
        }
    }
    for (layer, ours) in WITHOUT_PORTS {
        if facts["layers"][layer].is_number() && !found.contains(ours) {
            tally.nowhere.insert((name.to_owned(), (*layer).to_owned()));
        }
    }
}

/// What was seen in a capture.
struct Observed {
    /// Its flows, with their first senders.
    flows: HashMap<Key, (Flow, End)>,
    /// Every protocol of a packet.
    found: BTreeSet<&'static str>,
}

fn observe(trace: &Trace) -> Observed {
    let (mut detector, mut details) = (Detector::new(), Details::new());
    let (mut flows, mut found) = (HashMap::new(), BTreeSet::new());
    for packet in trace.packets().unwrap() {
        let (link_type, time_ns) = (packet.link_type as u16, packet.time_ns as u64);
        let decoded = decode(link_type, &packet.bytes);
        let arp = || {
            Some(Context::new(
                Layer::Arp,
                (0, 0),
                arp(link_type, &packet.bytes)?,
            ))
        };
        let Some(mut context) =
            Context::decoded(&decoded, &packet.bytes, true, time_ns).or_else(arp)
        else {
            continue;
        };
        let source = (context.addresses.0, context.source_port);
        let destination = (context.addresses.1, context.destination_port);
        let fresh = || (Flow::default(), source);
        let key = key(context.layer, source, destination);
        let (flow, first) = flows.entry(key).or_insert_with(fresh);
        // What has no ports has no flows.
        if !matches!(context.layer, Layer::Tcp | Layer::Udp | Layer::Sctp) {
            (*flow, *first) = fresh();
        }
        context.forward = *first == source;
        let verdict = detector.observe(&context, flow);
        found.extend(verdict.map(|verdict| verdict.protocol.name()));
        detector.describe(&context, flow, &mut details);
    }
    Observed { flows, found }
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
