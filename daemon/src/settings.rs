//! The table of settings: the one place that says which settings exist.
//!
//! Each row of [`SETTINGS`] gives a setting's key, flag, kind, range, default, the commands that take it and its help.
//! Command line, configuration files, environment, `show config` and the reference in `docs/CONFIGURATION.md` are all
//! made from it.
//!
//! A text becomes a [`Value`] once, by its row's [`Kind`]; a `Value` is therefore always in range. [`Values`] holds one
//! per setting together with its [`Origin`]. Sources are applied from the weakest to the strongest: default, file,
//! environment, flag.

use std::env;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Address, ReplayRate};
use crate::pinning;

/// What kind of traffic a node looks for. Each one is a sub-command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Packets that match any filter.
    Hunt,
    /// Telephone calls: SIP and RTP.
    Voip,
    /// Domain name queries and answers.
    Dns,
    /// HTTP requests and responses.
    Http,
    /// TLS handshakes.
    Tls,
    /// Mail: SMTP, IMAP, POP3.
    Email,
}

/// One row of the table.
#[derive(Debug)]
pub struct Setting {
    /// Key in configuration files, with dots between tables.
    pub key: &'static str,
    /// Other keys that mean the same.
    pub aliases: &'static [&'static str],
    /// Long flag, without dashes.
    pub flag: Option<&'static str>,
    /// Short flag.
    pub short: Option<char>,
    /// An older spelling of the flag, accepted with a warning.
    pub deprecated_flag: Option<&'static str>,
    /// Environment variables besides those made from the key.
    pub variables: &'static [&'static str],
    /// What values it takes.
    pub kind: Kind,
    /// Default in text form; `None`: unset.
    pub default: Option<&'static str>,
    /// The commands that take the flag.
    pub modes: &'static [Mode],
    /// Why any other value than the default is refused, if the function is missing from this version.
    pub missing: Option<&'static str>,
    /// Why it changes nothing, if it is only accepted for the sake of lippycat's files and command lines.
    pub no_effect: Option<&'static str>,
    /// Never shown.
    pub secret: bool,
    /// Left out of help texts.
    pub hidden: bool,
    /// One sentence for help texts.
    pub help: &'static str,
}

/// What values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Yes or no.
    Switch,
    /// A whole number, both ends included.
    Integer {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// One of these numbers.
    OneOf(&'static [i64]),
    /// Any text without control characters.
    Text,
    /// A path of a file or directory.
    Path,
    /// Several paths, one per use of the flag.
    Paths,
    /// Several texts, separated by commas or one per use of the flag.
    List,
    /// One of these words, in any case.
    Choice(&'static [&'static str]),
    /// A time with its unit: `500ms`, `10s`, `1m30s`; `0`.
    Duration,
    /// Ports 1 to 65535, separated by commas.
    Ports,
    /// Port ranges `a-b`, separated by commas.
    PortRanges,
    /// CPUs: `2,4-7`.
    Cpus,
    /// `host:port`, several separated by commas.
    Addresses,
    /// `max`, `2x`, `1000pps`.
    Rate,
}

/// A value that its setting's [`Kind`] has accepted.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of [`Kind::Switch`].
    Switch(bool),
    /// Of [`Kind::Integer`] and [`Kind::OneOf`].
    Integer(i64),
    /// Of [`Kind::Text`] and [`Kind::Path`].
    Text(String),
    /// Of [`Kind::List`] and [`Kind::Paths`].
    List(Vec<String>),
    /// Of [`Kind::Choice`]: the word as the table spells it.
    Choice(&'static str),
    /// Of [`Kind::Duration`].
    Duration(Duration),
    /// Of [`Kind::Ports`].
    Ports(Vec<u16>),
    /// Of [`Kind::PortRanges`]: first and last port of each.
    PortRanges(Vec<(u16, u16)>),
    /// Of [`Kind::Cpus`]: each once, in the order given.
    Cpus(Vec<usize>),
    /// Of [`Kind::Addresses`]. Never empty.
    Addresses(Vec<Address>),
    /// Of [`Kind::Rate`].
    Rate(ReplayRate),
}

/// Where a value comes from. Later variants override earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The table's default.
    Default,
    /// A configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag on the command line, without dashes.
    Flag(&'static str),
    /// Worked out by the program.
    Derived,
}

/// A value in the environment that its setting refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {variable}: {reason}")]
pub struct EnvironmentError {
    /// The variable.
    pub variable: String,
    /// What is wrong with its value.
    pub reason: String,
}

/// One value per setting, with its origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    /// In the order of [`SETTINGS`].
    slots: Vec<Option<(Value, Origin)>>,
    /// Keys in files that no setting has, and where each stands.
    unused: Vec<(String, Origin)>,
}

const ALL: &[Mode] = &[
    Mode::Hunt,
    Mode::Voip,
    Mode::Dns,
    Mode::Http,
    Mode::Tls,
    Mode::Email,
];

/// Modes that follow calls or sessions.
const FOLLOWING: &[Mode] = &[Mode::Voip, Mode::Dns, Mode::Http, Mode::Tls, Mode::Email];

const PATTERNS_CHOOSE: &str =
    "each kind of pattern has the structure that suits it, as large as it has to be";
const NO_GOROUTINES: &str = "there are no goroutines here";
const NO_CALL_IDS: &str = "logs never show Call-IDs";
const GPU_MISSING: &str = "GPU pattern matching is missing from this version";

/// Every setting there is.
pub static SETTINGS: &[Setting] = &[
    // Where packets come from.
    row("hunter.interfaces", Kind::List, "Interfaces to capture on; any stands for all of them").flag("interface", 'i').default("any"),
    row("hunter.read_files", Kind::Paths, "Read packets from this capture file (pcap, pcapng) instead of an interface; may be given several times, the run ends when everything is delivered")
        .flag("read-file", 'r'),
    row("hunter.replay_rate", Kind::Rate, "Speed of replay: max, a multiple of the original speed (1x, 10x), or packets per second (1000pps)").long("replay-rate").default("max"),
    row("hunter.bpf_filter", Kind::Text, "BPF expression that packets must match").flag("filter", 'f').default(""),
    row("promiscuous", Kind::Switch, "Capture frames that are addressed to other stations too").flag("promisc", 'p').default("false"),
    row("hunter.snaplen", integer(64, 262_144), "Most bytes kept of each packet").long("snaplen").default("65535"),
    row("pcap_buffer_size", integer(0, i32::MAX as i64), "Bytes of the kernel's capture buffer, per interface; 0: 16 MiB").long("pcap-buffer-size").default("16777216"),
    row("pcap_timeout_ms", integer(0, 60_000), "Longest time in milliseconds that the kernel gathers packets before it hands them over; 0: 200").default("200"),
    row("hunter.capture_backend", Kind::Choice(&["auto", "packet", "pcap"]), "Who reads the kernel's capture buffer: packet, lc-capd itself, so that nothing is lost when it dies; pcap, libpcap; auto, lc-capd where it knows the link layer, else libpcap")
        .long("capture-backend").default("auto"),
    // Where packets go.
    row("hunter.processor_addr", Kind::Addresses, "Processor to send packets to, host:port; of several, separated by commas, the first one that works is used, and the first one again when it is back")
        .flag("processor", 'P'),
    row("hunter.circuit_breaker.failures", integer(1, 1000), "Failures in a row after which a processor is left alone for a while").default("5"),
    row("hunter.circuit_breaker.open", Kind::Duration, "How long it is left alone, give or take a quarter, before one connection tries it again; 1s to 1h").default("30s"),
    row("hunter.circuit_breaker.half_open", Kind::Duration, "That connection is good when something was acknowledged, or when it has lasted this long; at most 1h").default("10s"),
    row("hunter.sink", Kind::Path, "Instead of --processor: run a small processor inside lc-hunt that writes packets.pcapng, packets.jsonl and summary.json into this directory").long("sink"),
    row("hunter.filters", Kind::Path, "Filters for --sink (TOML or YAML); changes of the file take effect at once").long("filters"),
    row("hunter.id", Kind::Text, "Name to register under; default: the host name").flag("id", 'I').alias(&["hunter.hunter_id"]).deprecated("hunter-id"),
    row("hunter.api_key", Kind::Text, "Sent to the processor as x-api-key; better given in LC_HUNT_API_KEY or a file, as flags are visible to other users").long("api-key").secret(),
    row("hunter.tls.cert_file", Kind::Path, "Client certificate (PEM) for mutual TLS; needs --tls-key").long("tls-cert"),
    row("hunter.tls.key_file", Kind::Path, "Private key (PEM) of the client certificate; needs --tls-cert").long("tls-key"),
    row("hunter.tls.ca_file", Kind::Path, "Certificate authorities (PEM) that vouch for the processor").long("tls-ca"),
    row("hunter.tls.server_name", Kind::Text, "Name expected in the certificate of every processor, if it is not the host of --processor").long("tls-server-name"),
    row("hunter.tls.skip_verify", Kind::Switch, "Accept any certificate from the processor (open to interception)").long("tls-skip-verify").default("false"),
    row("hunter.insecure", Kind::Switch, "Connect in clear text, without TLS").long("insecure").alias(&["insecure"]).default("false"),
    // How they get there.
    row("hunter.no_filter_policy", Kind::Choice(&["allow", "deny"]), "What to do with packets while no filter is in force; without this setting, dns, http, tls and email modes let all through that they recognise")
        .long("no-filter-policy").default("deny"),
    row("hunter.workers", integer(1, 64), "Worker processes; default: one less than there are cores, at least 1").long("workers"),
    row("hunter.buffer_size", integer(1, 1 << 25), "Packets that can wait for the workers, reckoned with 2048 bytes each").flag("buffer-size", 'b').default("10000"),
    row("hunter.flow_table_mb", integer(1, 1 << 16), "Memory of each worker for what it knows of flows, in MiB; 128 hold more than a million").long("flow-table-mb").default("128"),
    row("hunter.batch_size", integer(1, 65_536), "Most packets in a batch").long("batch-size").default("64"),
    row("hunter.batch_timeout_ms", integer(1, 60_000), "A batch that is not full is sent after this many milliseconds").long("batch-timeout").default("100"),
    row("hunter.batch_queue_size", integer(0, 1_000_000), "Batches that can wait for the processor, reckoned with 512 bytes a packet; 0: 1000").long("batch-queue-size").default("0"),
    row("hunter.require_hugepages", Kind::Switch, "Refuse to start if shared memory cannot be placed on huge pages").long("require-hugepages").default("false"),
    row("hunter.disk_buffer.enabled", Kind::Switch, "Keep packets on disk while the processor cannot take them").long("disk-buffer").default("false"),
    row("hunter.disk_buffer.dir", Kind::Path, "Directory of the disk buffer, for this node alone").long("disk-buffer-dir").default("/var/tmp/lippycat-buffer"),
    row("hunter.disk_buffer.max_mb", integer(0, 1 << 30), "Largest size of the disk buffer in MiB, 16 at least; 0: 1024").long("disk-buffer-max-mb").default("1024"),
    row("hunter.disk_buffer.policy", Kind::Choice(&["drop-oldest", "drop-newest"]), "What a full disk buffer does: drop its oldest packets, or take no more, so that memory fills and capture drops. A replay always waits")
        .long("disk-buffer-policy").default("drop-oldest"),
    row("hunter.disk_buffer.sync", Kind::Choice(&["never", "second", "record"]), "When packets on disk are made safe against a power cut: when the kernel likes, at most a second after they were written, or at once")
        .long("disk-buffer-sync").default("second"),
    // The run itself.
    row("hunter.log_level", Kind::Choice(&["debug", "info", "warn", "error"]), "Least severe messages to log").long("log-level").default("info").variables(&["LOG_LEVEL"]),
    row("hunter.shutdown_timeout", Kind::Duration, "Longest time each process may take to end in good order").long("shutdown-timeout").default("10s"),
    row("hunter.worker_grace", Kind::Duration, "A worker that is down for longer loses its share of the packets to the others until it is back").long("worker-grace").default("5s"),
    row("hunter.quarantine_dir", Kind::Path, "Where packets that kill a worker twice are kept, each as a pcapng file; default: /var/lib/lc-hunt/quarantine for root, else below $XDG_STATE_HOME").long("quarantine-dir"),
    row("hunter.no_sandbox", Kind::Switch, "Run the daemons without their sandbox (seccomp, landlock, dropped capabilities): only for kernels that lack it").long("no-sandbox").default("false"),
    row("hunter.runtime_dir", Kind::Path, "Base directory for sockets and run state; default: /run/lc-hunt for root, else below $XDG_RUNTIME_DIR").long("runtime-dir").alias(&["runtime_dir"]),
    row("hunter.pinning.capture_cpus", Kind::Cpus, "CPUs that lc-capd runs on: numbers and ranges, such as 2,4-7; default: all").long("capture-cpus"),
    row("hunter.pinning.worker_cpus", Kind::Cpus, "CPUs of the workers, which take one each in turn").long("worker-cpus"),
    row("hunter.pinning.forwarder_cpus", Kind::Cpus, "CPUs that lc-fwdd runs on").long("forwarder-cpus"),
    row("hunter.users.worker", Kind::Text, "User of the workers, if it is not that of lc-capd: a name or a number; as child of lc-hunt every daemon has the same user"),
    row("hunter.users.forwarder", Kind::Text, "User of the forwarder, if it is not that of lc-capd"),
    row("hunter.mode", Kind::Choice(&["hunt", "voip", "dns", "http", "tls", "email"]), "What kind of traffic to look for; on the command line the sub-command").default("hunt"),
    row("hunter.modes", Kind::List, "Several kinds of traffic to look for on one node: of voip, dns, http, tls and email, separated by commas; settings of their own come from the file or the environment").long("modes").on(&[Mode::Hunt]),
    // ESP.
    row("esp_null", Kind::Switch, "Take ESP for unencrypted where its content allows that, and look into it").long("esp-null").default("false"),
    row("esp_heuristic", Kind::Switch, "Find out by content which ESP is not encrypted, and look into it").long("esp-heuristic").default("false"),
    row("esp_icv_size", Kind::OneOf(&[-1, 0, 8, 12, 16, 24, 32]), "Bytes of the integrity check value at the end of such ESP; -1: find out").long("esp-icv-size").default("-1"),
    // Pattern matching on a GPU.
    row("hunter.voip_filter.enabled", Kind::Switch, "Match SIP patterns with the VoIP filter").long("enable-voip-filter").default("false").on(&[Mode::Hunt, Mode::Voip]).missing(GPU_MISSING),
    row("hunter.voip_filter.gpu_backend", Kind::Choice(&["auto", "cuda", "opencl", "cpu-simd", "disabled"]), "Where patterns are matched").flag("gpu-backend", 'g').default("auto")
        .on(&[Mode::Hunt, Mode::Voip]).missing(GPU_MISSING),
    row("hunter.voip_filter.gpu_batch_size", integer(1, 1 << 20), "Packets per GPU batch").long("gpu-batch-size").default("100").on(&[Mode::Hunt, Mode::Voip]).missing(GPU_MISSING),
    // voip
    row("hunter.voip.sip_ports", Kind::Ports, "Ports that SIP is expected on, as a hint: SIP is recognised on any port by its content. TCP connections on these ports are searched for SIP for as long as they last, others are given up after 16 KiB without any")
        .flag("sip-port", 'S').default("").on(&[Mode::Voip]),
    row("hunter.voip.rtp_port_ranges", Kind::PortRanges, "Ports that media are expected on, as a hint: media of calls are known by the addresses that SIP names. Media without SIP are believed on these ports from the first packet on, elsewhere when several fit together")
        .flag("rtp-port-range", 'R').default("").on(&[Mode::Voip]),
    row("hunter.voip.udp_only", Kind::Switch, "Leave out TCP, and so SIP over TCP").flag("udp-only", 'U').default("false").on(&[Mode::Voip]).hidden(),
    row("hunter.voip.calls_mb", integer(1, 1024), "Memory of each worker for calls, and as much again for what its successor and the other workers read of calls and sessions, in MiB, rounded up to a power of two").long("calls-mb").default("64").on(FOLLOWING),
    row("hunter.voip.held_mb", integer(1, 1024), "Memory of each worker for packets that wait for a verdict on their call or session, in MiB, rounded up to a power of two").long("held-mb").default("64").on(FOLLOWING),
    row("hunter.voip.transaction_timeout", Kind::Duration, "How long SIP outside of calls, such as REGISTER, is remembered when nothing more is heard of it; 1s to a week, as for the times that follow").default("32s").on(&[Mode::Voip]),
    row("hunter.voip.setup_timeout", Kind::Duration, "How long a call is remembered that is silent and was not answered").default("5m").on(&[Mode::Voip]),
    row("hunter.voip.established_timeout", Kind::Duration, "How long a call is remembered that is silent, media included, and was not ended").default("2h").on(&[Mode::Voip]),
    row("hunter.voip.linger", Kind::Duration, "How long a call is remembered after its end, for repeated messages and its last media").default("30s").on(&[Mode::Voip]),
    row("hunter.voip.media_timeout", Kind::Duration, "How long media without SIP are remembered when they have stopped").default("60s").on(&[Mode::Voip]),
    row("voip.pattern_algorithm", Kind::Choice(&["auto", "linear", "aho-corasick"]), "How SIP patterns are matched").long("pattern-algorithm").default("auto").on(&[Mode::Voip]).no_effect(PATTERNS_CHOOSE),
    row("voip.pattern_buffer_mb", integer(0, 1 << 20), "Memory for SIP patterns in MiB").long("pattern-buffer-mb").default("64").on(&[Mode::Voip]).no_effect(PATTERNS_CHOOSE),
    row("voip.tcp_sip_idle_timeout", Kind::Duration, "TCP connections are forgotten after this long without a packet, unless time-outs go by state; 0: 120s").long("tcp-sip-idle-timeout").default("0s").on(&[Mode::Voip]),
    row("voip.tcp_performance_mode", Kind::Choice(&["minimal", "balanced", "high_performance", "low_latency", "throughput", "latency", "memory"]), "Memory of each worker for TCP streams, used when needed. For bytes out of order, in all and of one direction of a connection; packets noted of one direction; connections. minimal, memory: 25 MiB, 100 KiB; 500; 16384. balanced: 100 MiB, 400 KiB; 5000; 262144. high_performance, throughput: 500 MiB, 2000 KiB; 20000; 1048575. low_latency, latency: 200 MiB, 200 KiB; 2000; 262144, and loss in one-sided captures is given up after one second instead of three").default("balanced"),
    row("voip.max_goroutines", integer(0, 1 << 30), "Threshold of a warning").default("1000").no_effect(NO_GOROUTINES),
    row("voip.max_streams", integer(0, 1 << 30), "Most TCP connections that a worker follows, whatever they carry, at most 1048575; 0: what tcp_performance_mode says. When there are more, half-open and one-sided ones give way first").default("0"),
    row("voip.call_id_detection_timeout", Kind::Duration, "Time to find a Call-ID in a stream").default("30s").no_effect("a stream that is not SIP is given up by what it holds, not by time"),
    row("voip.log_goroutine_limit_interval", Kind::Duration, "Time between two warnings").default("30s").no_effect(NO_GOROUTINES),
    row("voip.enable_state_tcp_timeouts", Kind::Switch, "Forget TCP connections by their state, after the three times below, and not after tcp_sip_idle_timeout").default("false"),
    row("voip.tcp_opening_timeout", Kind::Duration, "How long a TCP connection may be silent of which only SYNs were seen; 0: 5m").default("5m"),
    row("voip.tcp_established_timeout", Kind::Duration, "How long an open TCP connection may be silent; 0: 30m").default("30m"),
    row("voip.tcp_closing_timeout", Kind::Duration, "How long a TCP connection may be silent that one side has closed, or that a doubtful reset was seen of; 0: 5m").default("5m"),
    row("voip.enable_call_aware_timeout", Kind::Switch, "Keep the streams of active calls").default("false").no_effect("a connection that was forgotten is picked up at its next message, and its call goes on without it"),
    row("voip.security.sanitize_call_ids", Kind::Switch, "Show only hashes of long Call-IDs in logs").default("false").no_effect(NO_CALL_IDS),
    row("voip.security.call_id_hash_length", integer(1, 64), "Length of such a hash").default("8").no_effect(NO_CALL_IDS),
    row("voip.security.call_id_max_log_length", integer(1, 1024), "Longest Call-ID shown in full").default("16").no_effect(NO_CALL_IDS),
    row("voip.security.max_content_length", integer(0, 1 << 30), "Largest SIP Content-Length in bytes; messages beyond it are malformed; 0: 1048576").default("1048576"),
    row("voip.security.max_message_size", integer(0, 1 << 30), "Largest SIP message in bytes; larger ones are malformed; 0: 2097152").default("2097152"),
    // dns
    row("hunter.dns.ports", Kind::Ports, "DNS ports").long("dns-port").default("53").on(&[Mode::Dns]),
    row("hunter.dns.match_targets", Kind::Switch, "Compare filters for DNS names also with the names that NS, PTR, MX, SRV, SVCB, HTTPS and DNAME records lead to").long("match-targets").default("false").on(&[Mode::Dns]),
    row("hunter.dns.udp_only", Kind::Switch, "Leave out DNS over TCP").long("udp-only").default("false").on(&[Mode::Dns]),
    row("dns.detect_tunneling", Kind::Switch, "Tell of each DNS message how much the queries for its domain look like a tunnel").long("detect-tunneling").default("true").on(&[Mode::Dns]),
    row("dns.tunneling_allow_known", Kind::Switch, "Take names of well-known services that look like tunnels for none: content delivery, block lists, reputation, reverse look-ups").long("tunneling-allow-known").default("true").on(&[Mode::Dns]),
    row("dns.tunneling_allow", Kind::List, "Take names at and below these domains for no tunnels").long("tunneling-allow").on(&[Mode::Dns]),
    // http
    row("hunter.http.ports", Kind::Ports, "Ports that the capture is limited to, if they are given; HTTP is recognised on any port by its content").long("http-port").default("80,8080,8000,3000,8888").on(&[Mode::Http]),
    row("hunter.http.host", Kind::List, "Hosts of requests, with or without their port, as globs, such as *.example.com; exchanges that have none of them are left out. So it is with the lists that follow: something of each has to fit").long("host").default("").on(&[Mode::Http]),
    row("hunter.http.path", Kind::List, "Paths of requests, without the query, as globs").long("path").default("").on(&[Mode::Http]),
    row("hunter.http.method", Kind::List, "Methods of requests").long("method").default("").on(&[Mode::Http]),
    row("hunter.http.status", Kind::List, "Statuses of responses: 404, 4xx, 400-499").long("status").default("").on(&[Mode::Http]),
    row("hunter.http.keywords", Kind::List, "Texts in paths, queries, fields of requests and responses, and in bodies with --capture-body, in any case; @FILE stands for the lines of a file").long("keywords").default("").on(&[Mode::Http]),
    row("hunter.http.user_agent", Kind::List, "User-Agent of requests, as globs").long("user-agent").default("").on(&[Mode::Http]),
    row("hunter.http.content_type", Kind::List, "Content-Type of requests or responses, as globs").long("content-type").default("").on(&[Mode::Http]),
    row("hunter.http.capture_body", Kind::Switch, "Search bodies for keywords too, those included that are compressed with gzip, deflate or br").long("capture-body").default("false").on(&[Mode::Http]),
    row("hunter.http.max_body_size", integer(0, 1 << 30), "Most bytes of a body that are searched, before and after it was decompressed").long("max-body-size").default("65536").on(&[Mode::Http]),
    row("hunter.http.tls_keylog", Kind::Path, "TLS key log (SSLKEYLOGFILE of clients or servers): HTTP within TLS is followed as far as secrets are known, and the processor gets the secrets. The file may grow, be replaced, and come into being later").long("tls-keylog").on(&[Mode::Http]),
    row("hunter.http.tls_keylog_pipe", Kind::Path, "The same from a named pipe, which has to exist").long("tls-keylog-pipe").on(&[Mode::Http]),
    // tls
    row("hunter.tls.ports", Kind::Ports, "Ports that the capture is limited to, if they are given; else TLS, DTLS and QUIC are recognised on any port").long("tls-port").default("443").on(&[Mode::Tls]),
    row("hunter.tls.flow", Kind::Choice(&["full", "handshake"]), "How much is forwarded of a connection that is wanted: all of it, or what comes before its data. The handshake of TLS 1.3 is taken to end with the client's first encrypted record behind the ServerHello")
        .long("tls-flow").default("full").on(&[Mode::Tls]),
    // email
    row("hunter.email.protocol", Kind::Choice(&["smtp", "imap", "pop3", "all"]), "Which protocols are followed").long("protocol").default("all").on(&[Mode::Email]),
    row("hunter.email.smtp_ports", Kind::Ports, "Ports of SMTP. Given ports of a protocol that is followed limit the capture to the ports of all that are; else mail is found on any port").long("smtp-port").default("25,587,465").on(&[Mode::Email]),
    row("hunter.email.imap_ports", Kind::Ports, "Ports of IMAP, likewise").long("imap-port").default("143,993").on(&[Mode::Email]),
    row("hunter.email.pop3_ports", Kind::Ports, "Ports of POP3, likewise").long("pop3-port").default("110,995").on(&[Mode::Email]),
    row("hunter.email.sender", Kind::List, "Globs for senders: MAIL FROM, or From where a mail is fetched. What is wanted has to fit something of each list that is given").long("sender").default("").on(&[Mode::Email]),
    row("hunter.email.recipient", Kind::List, "Globs for recipients: RCPT TO, or To and Cc where a mail is fetched").long("recipient").default("").on(&[Mode::Email]),
    row("hunter.email.address", Kind::List, "Globs for senders and recipients").long("address").default("").on(&[Mode::Email]),
    row("hunter.email.subject", Kind::List, "Globs for subjects").long("subject").default("").on(&[Mode::Email]),
    row("hunter.email.mailbox", Kind::List, "Globs for mailboxes, which IMAP alone has").long("mailbox").default("").on(&[Mode::Email]),
    row("hunter.email.command", Kind::List, "Globs for commands, such as RCPT, UID FETCH, RETR").long("command").default("").on(&[Mode::Email]),
    row("hunter.email.keywords", Kind::List, "Texts to look for in subjects and bodies, in any case; @FILE stands for the lines of a file").long("keywords").default("").on(&[Mode::Email]),
    row("hunter.email.capture_body", Kind::Switch, "Look into bodies: tell how they begin, and search them for keywords").long("capture-body").default("true").on(&[Mode::Email]),
    row("hunter.email.max_body_size", integer(0, 1 << 20), "Most bytes of a body that are looked into; 0: 65536").long("max-body-size").default("65536").on(&[Mode::Email]),
];

/// The setting with this key or alias.
pub fn by_key(key: &str) -> Option<&'static Setting> {
    SETTINGS
        .iter()
        .find(|setting| setting.key == key || setting.aliases.contains(&key))
}

/// The key that `key` was probably meant to be.
pub fn nearest_key(key: &str) -> Option<&'static str> {
    SETTINGS
        .iter()
        .flat_map(|setting| std::iter::once(setting.key).chain(setting.aliases.iter().copied()))
        .map(|known| (edit_distance(key, known), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 4)
        .map(|(_, known)| known)
}

/// Levenshtein's distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.bytes().enumerate() {
            row.push(
                (previous[j] + usize::from(x != y))
                    .min(previous[j + 1] + 1)
                    .min(row[j] + 1),
            );
        }
        previous = row;
    }
    previous[b.len()]
}

impl Mode {
    /// All of them.
    pub const ALL: &'static [Mode] = ALL;

    /// The name of its sub-command.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Hunt => "hunt",
            Mode::Voip => "voip",
            Mode::Dns => "dns",
            Mode::Http => "http",
            Mode::Tls => "tls",
            Mode::Email => "email",
        }
    }

    /// One line for help texts.
    pub fn about(self) -> &'static str {
        match self {
            Mode::Hunt => "Capture packets and send those that match the processor's filters",
            Mode::Voip => "Capture telephone calls (SIP and RTP)",
            Mode::Dns => "Capture domain name queries and answers",
            Mode::Http => "Capture HTTP requests and responses",
            Mode::Tls => "Capture TLS handshakes",
            Mode::Email => "Capture mail (SMTP, IMAP, POP3)",
        }
    }
}

impl Setting {
    /// The environment variables that set it, strongest first: `LC_HUNT_BATCH_SIZE`, then the key in upper case, then
    /// the setting's own.
    pub fn environment(&self) -> Vec<String> {
        let own = self.key.strip_prefix("hunter.").unwrap_or(self.key);
        let mut names = vec![format!("LC_HUNT_{}", own.to_uppercase().replace('.', "_"))];
        names.push(self.key.to_uppercase());
        // An alias is an older key: it had its own variable.
        names.extend(self.aliases.iter().map(|alias| alias.to_uppercase()));
        names.extend(self.variables.iter().map(|&name| name.to_owned()));
        names
    }

    /// The default as a value.
    pub fn default_value(&self) -> Option<Value> {
        self.default.and_then(|text| self.kind.parse(text).ok())
    }

    /// How to name it to a person: the flag if there is one, else the key.
    pub fn title(&self) -> String {
        match self.flag {
            Some(flag) => format!("--{flag}"),
            None => self.key.to_owned(),
        }
    }

    /// Its place in [`SETTINGS`].
    fn index(&self) -> usize {
        SETTINGS
            .iter()
            .position(|row| row.key == self.key)
            .unwrap_or(SETTINGS.len())
    }
}

impl Kind {
    /// Reads the text form. The error says what was expected.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        if let Some(bad) = text.chars().find(|c| c.is_control()) {
            return Err(format!("contains the control character {bad:?}"));
        }
        match self {
            Kind::Switch => match text.to_ascii_lowercase().as_str() {
                "true" | "t" | "1" => Ok(Value::Switch(true)),
                "false" | "f" | "0" => Ok(Value::Switch(false)),
                _ => Err(format!("\"{text}\" is not true or false")),
            },
            Kind::Integer { min, max } => match text.parse::<i64>() {
                Ok(number) => self.integer(number),
                Err(_) => Err(format!(
                    "\"{text}\" is not a whole number from {min} to {max}"
                )),
            },
            Kind::OneOf(_) => match text.parse::<i64>() {
                Ok(number) => self.integer(number),
                Err(_) => Err(format!("\"{text}\" is not a whole number")),
            },
            Kind::Text => Ok(Value::Text(text.to_owned())),
            Kind::Path if text.is_empty() => Err("a path is expected, this is empty".to_owned()),
            Kind::Path => Ok(Value::Text(text.to_owned())),
            Kind::Paths if text.is_empty() => Err("a path is expected, this is empty".to_owned()),
            Kind::Paths => Ok(Value::List(vec![text.to_owned()])),
            Kind::List => Ok(Value::List(items(text).map(str::to_owned).collect())),
            Kind::Choice(words) => words
                .iter()
                .find(|word| word.eq_ignore_ascii_case(text))
                .map(|word| Value::Choice(word))
                .ok_or_else(|| format!("\"{text}\" is not one of {}", words.join(", "))),
            Kind::Duration => duration(text).map(Value::Duration).ok_or_else(|| {
                format!("\"{text}\" is not a time with its unit, such as 500ms, 10s or 1m30s")
            }),
            Kind::Ports => items(text)
                .map(port)
                .collect::<Result<_, _>>()
                .map(Value::Ports),
            Kind::PortRanges => items(text)
                .map(port_range)
                .collect::<Result<_, _>>()
                .map(Value::PortRanges),
            Kind::Cpus => pinning::parse(text).map(Value::Cpus),
            Kind::Addresses => text
                .split(',')
                .map(|item| item.trim().parse())
                .collect::<Result<_, _>>()
                .map(Value::Addresses),
            Kind::Rate => text.parse().map(Value::Rate),
        }
    }

    /// Checks a number.
    pub fn integer(self, number: i64) -> Result<Value, String> {
        match self {
            Kind::Integer { min, max } if number < min || number > max => {
                Err(format!("{number} is out of range: {min} to {max}"))
            }
            Kind::Integer { .. } => Ok(Value::Integer(number)),
            Kind::OneOf(numbers) if numbers.contains(&number) => Ok(Value::Integer(number)),
            Kind::OneOf(numbers) => {
                let known: Vec<String> = numbers.iter().map(i64::to_string).collect();
                Err(format!("{number} is not one of {}", known.join(", ")))
            }
            Kind::Ports | Kind::Cpus => self.parse(&number.to_string()),
            Kind::Duration if number == 0 => Ok(Value::Duration(Duration::ZERO)),
            Kind::Duration => Err(format!(
                "{number} has no unit; write \"{number}s\" or \"{number}ms\""
            )),
            _ => Err(format!("{} is expected, this is a number", self.noun())),
        }
    }

    /// Joins the values of several uses of one flag.
    pub fn join(self, values: impl IntoIterator<Item = Value>) -> Option<Value> {
        values
            .into_iter()
            .reduce(|earlier, later| match (earlier, later) {
                (Value::List(mut list), Value::List(more)) => {
                    list.extend(more);
                    Value::List(list)
                }
                (Value::Addresses(mut list), Value::Addresses(more)) => {
                    list.extend(more);
                    Value::Addresses(list)
                }
                (_, later) => later,
            })
    }

    /// What is expected, for messages and documents.
    pub fn noun(self) -> String {
        match self {
            Kind::Switch => "true or false".to_owned(),
            Kind::Integer { min, max } => format!("a whole number, {min} to {max}"),
            Kind::OneOf(numbers) => numbers
                .iter()
                .map(i64::to_string)
                .collect::<Vec<_>>()
                .join(", "),
            Kind::Text => "a text".to_owned(),
            Kind::Path => "a path".to_owned(),
            Kind::Paths => "a list of paths".to_owned(),
            Kind::List => "a list of texts".to_owned(),
            Kind::Choice(words) => words.join(", "),
            Kind::Duration => "a time such as 10s".to_owned(),
            Kind::Ports => "a list of ports".to_owned(),
            Kind::PortRanges => "a list of port ranges".to_owned(),
            Kind::Cpus => "a list of CPUs such as 2,4-7".to_owned(),
            Kind::Addresses => "host:port,...".to_owned(),
            Kind::Rate => "max, 1x, 1000pps".to_owned(),
        }
    }

    /// Whether a flag of this kind may be given several times.
    pub fn repeats(self) -> bool {
        matches!(self, Kind::List | Kind::Paths | Kind::Addresses)
    }
}

/// The items of a comma list, without blanks around them; empty ones are left out.
fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// Reads a port.
fn port(text: &str) -> Result<u16, String> {
    match text.trim().parse::<u16>() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(format!("\"{text}\" is not a port from 1 to 65535")),
    }
}

/// Reads `a-b`.
fn port_range(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text
        .split_once('-')
        .ok_or_else(|| format!("\"{text}\" is not a port range such as 10000-20000"))?;
    let (first, last) = (port(first)?, port(last)?);
    if first <= last {
        Ok((first, last))
    } else {
        Err(format!("the port range \"{text}\" ends before it starts"))
    }
}

/// Reads `1m30s`, `500ms`, `0`.
fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..number_len].parse().ok()?;
        rest = &rest[number_len..];
        let unit_len = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = match &rest[..unit_len] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[unit_len..];
    }
    if text.is_empty() {
        None
    } else {
        Duration::try_from_secs_f64(total).ok()
    }
}

impl Values {
    /// Every setting at its default.
    pub fn defaults() -> Self {
        let slots = SETTINGS.iter().map(|setting| {
            setting
                .default_value()
                .map(|value| (value, Origin::Default))
        });
        Values {
            slots: slots.collect(),
            unused: Vec::new(),
        }
    }

    /// Notes a key that lippycat documents and no hunter uses.
    pub(crate) fn pass_over(&mut self, key: String, origin: Origin) {
        self.unused.push((key, origin));
    }

    /// What was set and changes nothing: a line for each.
    pub fn without_effect(&self) -> Vec<String> {
        let known = self.iter().filter_map(|(setting, slot)| {
            let (why, (value, origin)) = (setting.no_effect?, slot?);
            let is_changed = Some(value) != setting.default_value().as_ref();
            is_changed.then(|| {
                let title = setting.title();
                match origin {
                    Origin::Flag(_) => format!("{title} has no effect: {why}"),
                    _ => format!("{title} (set in {origin}) has no effect: {why}"),
                }
            })
        });
        let unused = self.unused.iter().map(|(key, origin)| {
            format!("{key} (set in {origin}) has no effect: no hunter uses it")
        });
        known.chain(unused).collect()
    }

    /// Gives a setting a value. Whoever calls last wins.
    pub fn set(&mut self, setting: &Setting, value: Value, origin: Origin) {
        if let Some(slot) = self.slots.get_mut(setting.index()) {
            *slot = Some((value, origin));
        }
    }

    /// Takes a setting's value away.
    pub fn unset(&mut self, setting: &Setting) {
        if let Some(slot) = self.slots.get_mut(setting.index()) {
            *slot = None;
        }
    }

    /// Takes over what the environment says. Empty variables count as not set.
    pub fn apply_environment(&mut self) -> Result<(), EnvironmentError> {
        for setting in SETTINGS {
            for variable in setting.environment() {
                let Some(text) = env::var_os(&variable).filter(|text| !text.is_empty()) else {
                    continue;
                };
                let value = match text.to_str() {
                    Some(text) => setting.kind.parse(text),
                    None => Err("is not valid UTF-8".to_owned()),
                };
                match value {
                    Ok(value) => self.set(setting, value, Origin::Environment(variable)),
                    Err(reason) => return Err(EnvironmentError { variable, reason }),
                }
                break;
            }
        }
        Ok(())
    }

    /// All settings in table order, with value and origin of those that have one.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Setting, Option<(&Value, &Origin)>)> {
        SETTINGS.iter().zip(&self.slots).map(|(setting, slot)| {
            (
                setting,
                slot.as_ref().map(|(value, origin)| (value, origin)),
            )
        })
    }

    /// The value and origin of the setting with this key.
    pub fn get(&self, key: &str) -> Option<(&Value, &Origin)> {
        let setting = by_key(key)?;
        self.slots
            .get(setting.index())?
            .as_ref()
            .map(|(value, origin)| (value, origin))
    }

    /// Everything that is not at its default as a TOML file, one dotted key per line, secrets included.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for (setting, slot) in self.iter() {
            if let Some((value, origin)) = slot
                && *origin != Origin::Default
            {
                text += &format!("{} = {}\n", setting.key, value.to_toml());
            }
        }
        text
    }

    /// All values as lines for a person, with where each comes from, without secrets. It is TOML too.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (setting, slot) in self.iter() {
            let Some((value, origin)) = slot else {
                continue;
            };
            let literal = if setting.secret {
                "\"(not shown)\"".to_owned()
            } else {
                value.to_toml()
            };
            text += &format!("{} = {literal}  # {origin}\n", setting.key);
        }
        text
    }
}

impl Value {
    /// The value as it stands in a TOML file.
    pub fn to_toml(&self) -> String {
        match self {
            Value::Switch(on) => on.to_string(),
            Value::Integer(number) => number.to_string(),
            Value::List(list) => toml::Value::from(list.clone()).to_string(),
            other => toml::Value::from(other.to_string()).to_string(),
        }
    }
}

/// The text form that [`Kind::parse`] reads.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Switch(on) => write!(f, "{on}"),
            Value::Integer(number) => write!(f, "{number}"),
            Value::Text(text) => f.write_str(text),
            Value::List(list) => f.write_str(&list.join(",")),
            Value::Choice(word) => f.write_str(word),
            Value::Duration(time) if time.subsec_nanos() == 0 => write!(f, "{}s", time.as_secs()),
            Value::Duration(time) if time.subsec_nanos() % 1_000_000 == 0 => {
                write!(f, "{}ms", time.as_millis())
            }
            Value::Duration(time) => write!(f, "{}ns", time.as_nanos()),
            Value::Ports(ports) => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                f.write_str(&ports.join(","))
            }
            Value::PortRanges(ranges) => {
                let ranges: Vec<String> = ranges
                    .iter()
                    .map(|(first, last)| format!("{first}-{last}"))
                    .collect();
                f.write_str(&ranges.join(","))
            }
            Value::Cpus(cpus) => f.write_str(&pinning::list(cpus)),
            Value::Addresses(addresses) => {
                let addresses: Vec<String> = addresses.iter().map(Address::to_string).collect();
                f.write_str(&addresses.join(","))
            }
            Value::Rate(rate) => write!(f, "{rate}"),
        }
    }
}

impl Origin {
    /// How strong it is: a value given on the command line goes before one from a file.
    pub fn strength(&self) -> u8 {
        match self {
            Origin::Default => 0,
            Origin::File { .. } => 1,
            Origin::Environment(_) => 2,
            Origin::Flag(_) => 3,
            Origin::Derived => 4,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Environment(variable) => write!(f, "environment variable {variable}"),
            Origin::Flag(flag) => write!(f, "--{flag}"),
            Origin::Derived => f.write_str("worked out"),
        }
    }
}

/// Starts a row: no flag, unset, taken by all commands.
const fn row(key: &'static str, kind: Kind, help: &'static str) -> Setting {
    Setting {
        key,
        aliases: &[],
        flag: None,
        short: None,
        deprecated_flag: None,
        variables: &[],
        kind,
        default: None,
        modes: ALL,
        missing: None,
        no_effect: None,
        secret: false,
        hidden: false,
        help,
    }
}

/// A whole number from `min` to `max`.
const fn integer(min: i64, max: i64) -> Kind {
    Kind::Integer { min, max }
}

/// What a row adds to its start.
impl Setting {
    const fn flag(self, flag: &'static str, short: char) -> Self {
        Setting {
            flag: Some(flag),
            short: Some(short),
            ..self
        }
    }

    const fn long(self, flag: &'static str) -> Self {
        Setting {
            flag: Some(flag),
            ..self
        }
    }

    const fn deprecated(self, flag: &'static str) -> Self {
        Setting {
            deprecated_flag: Some(flag),
            ..self
        }
    }

    const fn default(self, text: &'static str) -> Self {
        Setting {
            default: Some(text),
            ..self
        }
    }

    const fn alias(self, aliases: &'static [&'static str]) -> Self {
        Setting { aliases, ..self }
    }

    const fn variables(self, variables: &'static [&'static str]) -> Self {
        Setting { variables, ..self }
    }

    const fn on(self, modes: &'static [Mode]) -> Self {
        Setting { modes, ..self }
    }

    const fn missing(self, why: &'static str) -> Self {
        Setting {
            missing: Some(why),
            ..self
        }
    }

    /// Also left out of help texts.
    const fn no_effect(self, why: &'static str) -> Self {
        Setting {
            no_effect: Some(why),
            hidden: true,
            ..self
        }
    }

    const fn secret(self) -> Self {
        Setting {
            secret: true,
            ..self
        }
    }

    const fn hidden(self) -> Self {
        Setting {
            hidden: true,
            ..self
        }
    }
}
