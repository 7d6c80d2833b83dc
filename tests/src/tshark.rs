//! What TShark tells of real captures otherwise than it is told here, and why.

/// Captures with other DNS.
pub const DNS: &[(&str, &str)] = &[
    ("dns-inverse-query.pcap", "on FDDI, which is not decoded"),
    ("dns-over-http2-clear.pcap", "in HTTP/2"),
    (
        "dns-junk-first.pcap",
        "SNMP that was sent to the port of DNS",
    ),
    ("dns-tcp-gap.pcap", "TShark stops at the gap"),
    ("dnscrypt-v2.pcap", "DNSCrypt, on the port of mDNS"),
];

/// Captures with other hellos of TLS.
pub const TLS: &[(&str, &str)] = &[
    ("openvpn_nohmac_tcp.pcapng", "TLS in packets of OpenVPN"),
    ("capwap_data.pcapng", "in CAPWAP, which is not opened"),
];

/// Other facts of mail: capture, beginning of the fact. Facts are `command MAIL`, `sender a@b`, `recipient a@b`, `user a`, `subject text`.
pub const MAIL: &[(&str, &str, &str)] = &[
    (
        "socks5-smtp-503.pcap",
        "command EHLO",
        "begins as SOCKS, which is not SMTP",
    ),
    ("bad-list-retr-crafted.pcap", "subject", "TShark cuts it"),
    ("rfc3030-bdat-example1.pcap", "subject", "TShark cuts it"),
    (
        "smtp-nested-mail.pcap",
        "sender bob@",
        "the server refuses it while another mail is open",
    ),
    (
        "smtp-mail-transactions-invalid.pcap",
        "sender",
        "the last one is refused while another mail is open",
    ),
    (
        "smtp-mail-transactions-invalid.pcap",
        "recipient",
        "the second one is of no mail",
    ),
    (
        "smtp-subject-windows.pcap",
        "",
        "TShark does not find the client",
    ),
    (
        "smtp-pipelining.pcap",
        "",
        "TShark reads one command of a segment",
    ),
    (
        "smtp-out-of-order.pcap",
        "",
        "TShark reads one command of a segment",
    ),
    (
        "smtp-long-command.pcap",
        "command QUIT",
        "a response to AUTH, as the server sees it",
    ),
    ("pop3-auth.pcap", "command DXN", "a response to AUTH"),
    (
        "pop3-auth.pcap",
        "user",
        "TShark does not look into responses to AUTH",
    ),
    ("zeek-pop3.pcap", "command AGR", "a response to AUTH"),
    (
        "zeek-pop3.pcap",
        "user",
        "TShark does not look into responses to AUTH",
    ),
    ("ppp-smtp.pcap", "command", "responses to AUTH"),
];

/// Whether this fact of mail is one of those.
pub fn is_other_mail(capture: &str, fact: &str) -> bool {
    let mut others = MAIL.iter().filter(|(name, ..)| *name == capture);
    others.any(|(_, start, _)| fact.starts_with(start))
}
