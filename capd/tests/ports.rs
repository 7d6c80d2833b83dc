//! What the ports of each mode let through, against the expressions of the reference: the same untagged, unfragmented packets.

use lc_capd::bpf::{Expression, OfflineFilter};
use lc_daemon::config::Config;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Row of the reference's tables, settings in force, the reference's expression.
type Row = (&'static str, &'static str, &'static str);

const ROWS: [Row; 9] = [
    (
        "dns 57",
        "modes = [\"dns\"]\ndns.ports = \"53\"",
        "(udp or tcp) and (port 53)",
    ),
    (
        "dns 58",
        "modes = [\"dns\"]\ndns.ports = \"53,5353\"\ndns.udp_only = true",
        "udp and (port 53 or port 5353)",
    ),
    (
        "dns 59",
        "modes = [\"dns\"]\ndns.ports = \"53,5353\"\nbpf_filter = \"not host 1.1.1.1\"",
        "((udp or tcp) and (port 53 or port 5353)) and (not host 1.1.1.1)",
    ),
    (
        "http 43",
        "modes = [\"http\"]\nhttp.ports = \"80,8080,8000,3000,8888\"",
        "tcp and (port 80 or port 8080 or port 8000 or port 3000 or port 8888)",
    ),
    (
        "http 44",
        "modes = [\"http\"]\nhttp.ports = \"80\"\nbpf_filter = \"net 10.0.0.0/8\"",
        "tcp and (port 80) and (net 10.0.0.0/8)",
    ),
    // QUIC and DTLS are followed too, which the reference leaves out.
    (
        "tls 32",
        "modes = [\"tls\"]\ntls.ports = \"443\"",
        "port 443 and (tcp or udp)",
    ),
    (
        "tls 33",
        "modes = [\"tls\"]\ntls.ports = \"443,8443\"\nbpf_filter = \"host 10.0.0.1\"",
        "(host 10.0.0.1) and (port 443 or port 8443) and (tcp or udp)",
    ),
    (
        "email 36",
        "modes = [\"email\"]\nemail.protocol = \"smtp\"\nemail.smtp_ports = \"25,587,465\"",
        "tcp and (port 25 or port 587 or port 465)",
    ),
    (
        "email 37",
        "modes = [\"email\"]\nemail.protocol = \"smtp\"\nemail.smtp_ports = \"2525\"\nbpf_filter = \"net 10.0.0.0/8\"",
        "(tcp and (port 2525)) and (net 10.0.0.0/8)",
    ),
];

/// An IPv4 packet in an Ethernet frame.
fn frame(protocol: u8, hosts: [[u8; 4]; 2], ports: [u16; 2]) -> Vec<u8> {
    let mut frame = [[0; 12].as_slice(), &[8, 0]].concat();
    frame.extend([0x45, 0, 0, 60, 0, 1, 0, 0, 64, protocol, 0, 0]);
    hosts.iter().for_each(|host| frame.extend(host));
    ports
        .iter()
        .for_each(|port| frame.extend(port.to_be_bytes()));
    frame.extend([0; 36]);
    frame
}

/// Packets of all kinds that the rows tell apart.
fn frames() -> Vec<Vec<u8>> {
    let hosts = [[10, 0, 0, 1], [10, 9, 9, 9], [1, 1, 1, 1], [192, 0, 2, 1]];
    let ports = [
        25, 53, 80, 110, 143, 443, 465, 587, 2525, 3000, 5353, 8000, 8080, 8443, 8888, 40_000,
    ];
    let mut frames = Vec::new();
    for protocol in [TCP, UDP, 132] {
        for source in hosts {
            for destination in hosts {
                for port in ports {
                    let hosts = [source, destination];
                    frames.push(frame(protocol, hosts, [40_001, port]));
                    frames.push(frame(protocol, hosts, [port, 40_001]));
                }
            }
        }
    }
    frames
}

#[test]
fn given_ports_limit_the_capture_as_in_the_reference() {
    let folder = tempfile::tempdir().unwrap();
    let frames = frames();
    for (row, settings, expression) in ROWS {
        let path = folder.path().join("capd.toml");
        let text = format!(
            "[hunter]\nprocessor_addr = \"127.0.0.1:55555\"\ninsecure = true\nid = \"test\"\nruntime_dir = {:?}\n{settings}\n",
            folder.path()
        );
        std::fs::write(&path, text).unwrap();
        let config = Config::load(&path).unwrap();
        let mut own = OfflineFilter::new(&Expression::of(&config), [1]).unwrap();
        let mut reference = OfflineFilter::new(&Expression::new(expression, &[]), [1]).unwrap();
        let mut passed = 0;
        for frame in &frames {
            let passes = reference.matches(1, frame);
            assert_eq!(own.matches(1, frame), passes, "row {row}: {frame:x?}");
            passed += usize::from(passes);
        }
        assert!(passed > 0 && passed < frames.len(), "row {row}: {passed}");
    }
}
