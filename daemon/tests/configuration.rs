//! Configuration through its public face: files, precedence, cross checks.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lc_daemon::config::{
    Address, CallSilence, CaptureBackend, Config, ConfigError, Dns, Esp, ExpectedPorts, Identity,
    Live, LogLevel, MessageLimits, NoFilterPolicy, PerformanceMode, ReplayRate, Source, TcpSilence,
    TcpStreams, Tls, Transport, Trust, Voip,
};
use lc_daemon::config_file::search_paths;
use lc_daemon::settings::{Kind, Mode, Origin, SETTINGS, Value, Values, by_key};
use proptest::prelude::*;

/// The least that makes a complete configuration.
const MINIMAL: &str = "hunter.processor_addr = \"processor:55555\"\nhunter.insecure = true\n";

fn toml(text: &str) -> Result<Config, ConfigError> {
    let mut values = Values::defaults();
    values.apply_toml(Path::new("test.toml"), text)?;
    Config::from_values(&values)
}

fn yaml(text: &str) -> Result<Config, ConfigError> {
    let mut values = Values::defaults();
    values.apply_yaml(Path::new("test.yaml"), text)?;
    Config::from_values(&values)
}

fn with_flags(file: &str, flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut values = Values::defaults();
    values.apply_toml(Path::new("test.toml"), file)?;
    for (key, text) in flags {
        let setting = by_key(key).unwrap();
        values.set(
            setting,
            setting.kind.parse(text).unwrap(),
            Origin::Flag(setting.flag.unwrap()),
        );
    }
    Config::from_values(&values)
}

#[test]
fn defaults_are_those_of_the_reference() {
    let config = toml(MINIMAL).unwrap();
    assert!(config.modes.has(Mode::Hunt));
    assert_eq!(
        config.processors,
        [Address {
            host: "processor".into(),
            port: 55555
        }]
    );
    assert_eq!(config.transport, Transport::Insecure);
    assert_eq!(
        config.source,
        Source::Live(Live {
            interfaces: vec!["any".into()],
            promiscuous: false,
            snaplen: 65535,
            kernel_buffer_bytes: 16 << 20,
            read_timeout: Duration::from_millis(200),
            backend: CaptureBackend::Auto,
        })
    );
    assert_eq!(config.no_filter_policy, NoFilterPolicy::Deny);
    assert_eq!(
        (config.batch_size, config.batch_timeout),
        (64, Duration::from_millis(100))
    );
    assert_eq!(
        (config.buffer_packets, config.queue_batches),
        (10_000, 1000)
    );
    assert_eq!(config.log_level, LogLevel::Info);
    assert!(!config.hunter_id.is_empty());
    assert!((1..=64).contains(&config.workers));
    assert!(!config.waits_for_filters());
}

#[test]
fn every_documented_key_works_in_both_formats() {
    let from_toml = toml(
        r#"
promiscuous = true
pcap_buffer_size = 1048576
pcap_timeout_ms = 50
[hunter]
processor_addr = "[2001:db8::1]:443"
id = "edge-1"
interfaces = ["eth0", "eth1"]
bpf_filter = "udp"
buffer_size = 5000
batch_size = 32
batch_timeout_ms = 20
batch_queue_size = 10
no_filter_policy = "allow"
workers = 3
[hunter.tls]
ca_file = "/ca.pem"
cert_file = "/cert.pem"
key_file = "/key.pem"
server_name = "processor.example"
[hunter.voip]
sip_ports = 5060
"#,
    )
    .unwrap();
    let from_yaml = yaml(
        r#"
# as written for lippycat
promiscuous: true
pcap_buffer_size: 1048576
pcap_timeout_ms: 50
processor:
  listen_addr: ":55555"
  anything: [1, 2, {a: b}]
voip:
  max_tcp_buffers: 5000
  plugins_enabled: false
hunter:
  processor_addr: "[2001:db8::1]:443"
  hunter_id: edge-1
  interfaces: "eth0,eth1"
  bpf_filter: udp
  buffer_size: 5000
  batch_size: 32
  batch_timeout_ms: 20
  batch_queue_size: 10
  no_filter_policy: allow
  workers: 3
  voip:
    sip_ports: 5060
  tls:
    ca_file: /ca.pem
    cert_file: /cert.pem
    key_file: /key.pem
    server_name: processor.example
"#,
    )
    .unwrap();
    assert_eq!(from_toml, from_yaml);
    assert_eq!(from_toml.processor_list(), "[2001:db8::1]:443");
    assert_eq!(
        from_toml.transport,
        Transport::Tls(Tls {
            trust: Trust::Ca("/ca.pem".into()),
            identity: Some(Identity {
                cert: "/cert.pem".into(),
                key: "/key.pem".into()
            }),
            server_name: Some("processor.example".into()),
        })
    );
    assert_eq!(from_toml.workers, 3);
    assert_eq!(from_toml.hunter_id, "edge-1");
    assert_eq!(from_toml.capture_threads(), 2);
}

#[test]
fn voip_has_settings_of_its_own() {
    let config = toml(&format!("{MINIMAL}hunter.mode = \"voip\"\n")).unwrap();
    assert!(config.modes.has(Mode::Voip));
    assert_eq!(config.no_filter_policy, NoFilterPolicy::Deny);
    let default = config.voip;
    assert_eq!(default.silence, CallSilence::default());
    assert_eq!(default.messages, MessageLimits::default());
    assert_eq!(default.streams, TcpStreams::default());
    assert_eq!(
        (default.udp_only, default.ports),
        (false, ExpectedPorts::default())
    );

    let config = yaml(
        r#"
hunter:
  mode: voip
  processor_addr: p:1
  insecure: true
  voip:
    udp_only: true
    sip_ports: "5060, 5080"
    rtp_port_ranges: "10000-20000,7000-7000"
    calls_mb: 3
    transaction_timeout: 10s
    setup_timeout: 1m
    established_timeout: 1h
    linger: 5s
    media_timeout: 20s
voip:
  tcp_performance_mode: latency
  max_streams: 77
  tcp_sip_idle_timeout: 90s
  tcp_closing_timeout: 7s
  security:
    max_content_length: 1000
    max_message_size: 2000
"#,
    )
    .unwrap();
    let seconds = Duration::from_secs;
    assert_eq!(config.calls_log_bytes, 4 << 20);
    let expected = Voip {
        udp_only: true,
        ports: ExpectedPorts {
            sip: vec![5060, 5080],
            media: vec![10_000..=20_000, 7_000..=7_000],
        },
        silence: CallSilence {
            transaction: seconds(10),
            setup: seconds(60),
            established: seconds(3_600),
            over: seconds(5),
            media_only: seconds(20),
        },
        messages: MessageLimits {
            bytes: 2_000,
            content_length: 1_000,
        },
        streams: TcpStreams {
            mode: PerformanceMode::LowLatency,
            most: 77,
            silence: TcpSilence::always(seconds(90)),
        },
    };
    assert_eq!(config.voip, expected);
}

#[test]
fn dns_has_settings_of_its_own() {
    assert_eq!(toml(MINIMAL).unwrap().dns, Dns::default());
    let config = yaml(
        r#"
hunter:
  processor_addr: p:1
  insecure: true
  dns:
    ports: "53, 5353"
    udp_only: true
    match_targets: true
dns:
  detect_tunneling: false
  tunneling_allow_known: false
  tunneling_allow: [cdn.example.com., internal]
"#,
    )
    .unwrap();
    let expected = Dns {
        ports: vec![53, 5353],
        udp_only: true,
        detect_tunneling: false,
        allow_known_services: false,
        allowed_domains: vec!["cdn.example.com".to_owned(), "internal".to_owned()],
        match_targets: true,
    };
    assert_eq!(config.dns, expected);
    // The built-in ports are no limit, given ports are one.
    let ports = |text| {
        with_flags(MINIMAL, &[("hunter.dns.ports", text)])
            .unwrap()
            .dns
            .ports
    };
    assert_eq!((ports("53"), ports("")), (vec![53], vec![]));
    for item in ["*.example.com", "a b", ".", "a..b"] {
        let text = format!("{MINIMAL}dns.tunneling_allow = [\"{item}\"]\n");
        let error = toml(&text).unwrap_err().to_string();
        assert!(error.contains("--tunneling-allow"), "{error}");
    }
}

#[test]
fn tcp_has_time_outs_by_state_only_if_asked_for_and_zero_is_the_default() {
    let silence = |text: &str| {
        let config = toml(&format!("{MINIMAL}{text}")).unwrap();
        config.voip.streams.silence
    };
    let seconds = Duration::from_secs;
    assert_eq!(silence(""), TcpSilence::always(seconds(120)));
    let some = "voip.tcp_opening_timeout = \"9s\"\nvoip.tcp_closing_timeout = \"0s\"\n";
    assert_eq!(silence(some), TcpSilence::always(seconds(120)));
    let by_state = TcpSilence {
        opening: seconds(9),
        ..TcpSilence::BY_STATE
    };
    let chosen = format!("{some}voip.enable_state_tcp_timeouts = true\n");
    assert_eq!(silence(&chosen), by_state);
    let zero = "voip.security.max_content_length = 0\nvoip.security.max_message_size = 0\n";
    let config = toml(&format!("{MINIMAL}{zero}")).unwrap();
    assert_eq!(config.voip.messages, MessageLimits::default());
}

#[test]
fn esp_is_opened_if_asked_for() {
    let esp = |text: &str| toml(&format!("{MINIMAL}{text}")).unwrap().esp;
    assert!(esp("").is_off());
    assert!(esp("esp_icv_size = 12").is_off());
    let expected = Esp {
        null: true,
        heuristic: false,
        icv_len: Some(16),
    };
    assert_eq!(esp("esp_null = true\nesp_icv_size = 16"), expected);
    let expected = Esp {
        heuristic: true,
        ..Esp::default()
    };
    assert_eq!(esp("esp_heuristic = true\nesp_icv_size = -1"), expected);
    assert!(toml(&format!("{MINIMAL}esp_icv_size = 7")).is_err());
}

#[test]
fn what_has_no_effect_is_told() {
    let mut values = Values::defaults();
    assert_eq!(values.without_effect(), [""; 0]);
    let text = "voip:\n  max_goroutines: 5\n  security: {sanitize_call_ids: true}\n  \
                pattern_buffer_mb: 64\n  worker_threads: 4\n  max_streams: 3\n";
    values.apply_yaml(Path::new("test.yaml"), text).unwrap();
    let setting = by_key("voip.pattern_algorithm").unwrap();
    values.set(
        setting,
        Value::Choice("linear"),
        Origin::Flag("pattern-algorithm"),
    );
    let told = values.without_effect();
    let expected = [
        "--pattern-algorithm has no effect: each kind of pattern",
        "voip.max_goroutines (set in test.yaml:2) has no effect: there are no goroutines here",
        "voip.security.sanitize_call_ids (set in test.yaml:3) has no effect: logs never show Call-IDs",
        "voip.worker_threads (set in test.yaml:5) has no effect: no hunter uses it",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (line, expected) in told.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}");
    }
}

#[test]
fn both_spellings_of_insecure_work() {
    for text in [
        "insecure: true\nhunter: {processor_addr: 'p:1'}",
        "hunter: {processor_addr: 'p:1', insecure: true}",
    ] {
        assert_eq!(yaml(text).unwrap().transport, Transport::Insecure, "{text}");
    }
    // In one file the setting's own key goes before its older name.
    let text =
        "insecure: true\nhunter: {processor_addr: 'p:1', insecure: false, tls: {ca_file: ca.pem}}";
    assert!(matches!(yaml(text).unwrap().transport, Transport::Tls(_)));
}

#[test]
fn a_text_may_stand_over_several_lines() {
    for block in ["|", ">", ">-"] {
        let text =
            format!("hunter:\n  sink: out\n  bpf_filter: {block}\n    udp and\n    port 53\n");
        assert_eq!(
            yaml(&text).unwrap().bpf_filter,
            "udp and port 53",
            "{block}"
        );
    }
}

#[test]
fn wrong_files_are_refused_with_file_line_and_key() {
    let cases: &[(&str, bool, &str)] = &[
        (
            "[hunter]\nbatch_sise = 3\n",
            false,
            "test.toml:2: unknown key \"hunter.batch_sise\"; did you mean \"hunter.batch_size\"?",
        ),
        (
            "hunter:\n  id: a\n  batch_sise: 3\n",
            true,
            "test.yaml:3: unknown key \"hunter.batch_sise\"; did you mean \"hunter.batch_size\"?",
        ),
        (
            "[colour]\nred = 1\n",
            false,
            "test.toml:2: unknown key \"colour.red\"",
        ),
        (
            "processor = {listen_addr = \":1\"}\n",
            false,
            "test.toml:1: unknown key \"processor.listen_addr\"",
        ),
        (
            "\nhunter.batch_size = \"many\"\n",
            false,
            "test.toml:2: hunter.batch_size: a whole number, 1 to 65536 is expected, this is a text",
        ),
        (
            "hunter:\n  batch_size: many\n",
            true,
            "test.yaml:2: hunter.batch_size: a whole number, 1 to 65536 is expected, this is a text",
        ),
        (
            "hunter.batch_size = 1.5\n",
            false,
            "test.toml:1: hunter.batch_size: a whole number, 1 to 65536 is expected, this is a fraction",
        ),
        (
            "hunter.batch_size = 0\n",
            false,
            "test.toml:1: hunter.batch_size: 0 is out of range: 1 to 65536",
        ),
        (
            "hunter.batch_size = 99999999999999999999\n",
            false,
            "too large a number",
        ),
        (
            "hunter:\n  buffer_size: -5\n",
            true,
            "test.yaml:2: hunter.buffer_size: -5 is out of range",
        ),
        (
            "hunter.insecure = \"yes\"\n",
            false,
            "test.toml:1: hunter.insecure: true or false is expected, this is a text",
        ),
        (
            "hunter.insecure = 1\n",
            false,
            "true or false is expected, this is a number",
        ),
        (
            "hunter.interfaces = [1]\n",
            false,
            "a list of texts is expected, an item is something else",
        ),
        (
            "hunter.bpf_filter = [\"a\"]\n",
            false,
            "a text is expected, this is a list",
        ),
        (
            "hunter.id = true\n",
            false,
            "a text is expected, this is true or false",
        ),
        (
            "hunter.no_filter_policy = \"maybe\"\n",
            false,
            "test.toml:1: hunter.no_filter_policy: \"maybe\" is not one of allow, deny",
        ),
        (
            "hunter.processor_addr = \"host\"\n",
            false,
            "\"host\" is not host:port",
        ),
        (
            "hunter.processor_addr = \"host:0\"\n",
            false,
            "port \"0\" in \"host:0\" is not a number from 1 to 65535",
        ),
        (
            "hunter.processor_addr = \"host:70000\"\n",
            false,
            "port \"70000\"",
        ),
        (
            "hunter.processor_addr = \"::1:80\"\n",
            false,
            "an IPv6 address goes in brackets",
        ),
        (
            "hunter.voip.sip_ports = \"5060,0\"\n",
            false,
            "\"0\" is not a port from 1 to 65535",
        ),
        (
            "hunter.dns.ports = \"0\"\n",
            false,
            "\"0\" is not a port from 1 to 65535",
        ),
        (
            "hunter.dns.ports = \"53,65536\"\n",
            false,
            "\"65536\" is not a port from 1 to 65535",
        ),
        (
            "hunter.voip.rtp_port_ranges = \"20000-10000\"\n",
            false,
            "ends before it starts",
        ),
        ("hunter.shutdown_timeout = 10\n", false, "10 has no unit"),
        (
            "hunter.shutdown_timeout = \"ten\"\n",
            false,
            "is not a time with its unit",
        ),
        (
            "hunter.replay_rate = \"-1x\"\n",
            false,
            "is not max, a speed",
        ),
        ("a = \n", false, "test.toml:1: "),
        ("a = 1\n[b\n", false, "test.toml:2: "),
        (
            "hunter.id = \"a\"\nhunter.id = \"b\"\n",
            false,
            "test.toml:2: duplicate key",
        ),
        ("hunter:\n  id: [\n", true, "test.yaml:"),
        (
            "- a\n- b\n",
            true,
            "test.yaml:1: keys with values are expected",
        ),
        (
            "hunter: {id: a}\n---\nhunter: {id: b}\n",
            true,
            "more than one YAML document",
        ),
        ("1: a\n", true, "test.yaml:1: a key must be a text"),
    ];
    for (text, is_yaml, expected) in cases {
        let error = if *is_yaml { yaml(text) } else { toml(text) }
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(expected),
            "{text:?} gave {error:?}, expected {expected:?}"
        );
    }
}

#[test]
fn settings_that_do_not_fit_together_are_refused() {
    let cases: &[(&str, &str)] = &[
        (
            "",
            "no processor: give --processor HOST:PORT, or --sink DIR",
        ),
        (
            "hunter.processor_addr = \"p:1\"",
            "--tls-ca FILE, or --tls-skip-verify to accept any certificate, or --insecure",
        ),
        (
            "hunter.processor_addr = \"p:1\"\nhunter.sink = \"out\"",
            "--processor and --sink exclude each other",
        ),
        (
            "hunter.processor_addr = \"p:1\"\nhunter.insecure = true\nhunter.filters = \"f\"",
            "--filters needs --sink as well",
        ),
        (
            "hunter.processor_addr = \"p:1\"\nhunter.tls.ca_file = \"c\"\nhunter.tls.cert_file = \"x\"",
            "--tls-cert needs --tls-key as well",
        ),
        (
            "hunter.processor_addr = \"p:1\"\nhunter.tls.ca_file = \"c\"\nhunter.tls.key_file = \"x\"",
            "--tls-key needs --tls-cert as well",
        ),
        (
            "hunter.processor_addr = \"p:1\"\nhunter.insecure = true\nhunter.tls.ca_file = \"c\"",
            "--insecure and --tls-ca exclude each other",
        ),
        (
            "hunter.sink = \"o\"\nhunter.workers = 1\nhunter.buffer_size = 600000",
            "--buffer-size asks for 2048 MiB for each ring, but a ring has at most 1024 MiB",
        ),
        (
            "hunter.sink = \"o\"\nhunter.workers = 1\nhunter.batch_queue_size = 1000000",
            "--batch-queue-size with --batch-size asks for 32768 MiB",
        ),
        (
            "hunter.sink = \"o\"\nhunter.read_files = [\"a\"]\nhunter.interfaces = [\"b\"]",
            "--read-file and --interface exclude each other",
        ),
        (
            "hunter.sink = \"o\"\nhunter.replay_rate = \"1x\"",
            "--replay-rate needs --read-file as well",
        ),
        (
            "hunter.sink = \"o\"\nhunter.interfaces = [\"b\", \"b\"]",
            "test.toml:2: the interface b is named twice",
        ),
        (
            "hunter.sink = \"o\"\nhunter.interfaces = [\"any\", \"b\"]",
            "any already stands for all interfaces",
        ),
        (
            "hunter.sink = \"o\"\nhunter.interfaces = []",
            "no interface is named",
        ),
        (
            "hunter.insecure = true\nhunter.processor_addr = \"a:1,b:1,A:1\"",
            "test.toml:2: the processor A:1 is named twice",
        ),
        (
            "hunter.insecure = true\nhunter.processor_addr = \"a:1,a:2,a:3,a:4,a:5,a:6,a:7,a:8,a:9\"",
            "9 processors are named; 8 are the most",
        ),
        (
            "hunter.sink = \"o\"\nhunter.circuit_breaker.open = \"10ms\"",
            "hunter.circuit_breaker.open: 10ms is out of range: 1s to 3600s",
        ),
        (
            "hunter.sink = \"o\"\nhunter.circuit_breaker.half_open = \"2h\"",
            "hunter.circuit_breaker.half_open: 7200s is out of range: 0ns to 3600s",
        ),
        (
            "hunter.sink = \"o\"\nhunter.mode = \"dns\"\nhunter.modes = [\"tls\"]",
            "hunter.modes: the mode is dns, which is not among them",
        ),
        (
            "hunter.sink = \"o\"\nhunter.voip.linger = \"10ms\"",
            "hunter.voip.linger: 10ms is out of range: 1s to 604800s",
        ),
        (
            "hunter.sink = \"o\"\nhunter.voip.established_timeout = \"200h\"",
            "hunter.voip.established_timeout: 720000s is out of range: 1s to 604800s",
        ),
        (
            "hunter.sink = \"o\"\nhunter.voip_filter.enabled = true",
            "--enable-voip-filter (set in test.toml:2): GPU pattern matching is missing",
        ),
        (
            "hunter.sink = \"o\"\nhunter.disk_buffer.enabled = true\nhunter.disk_buffer.max_mb = 15",
            "--disk-buffer-max-mb: a disk buffer needs 16 MiB at least",
        ),
    ];
    for (text, expected) in cases {
        let error = toml(text).unwrap_err().to_string();
        assert!(
            error.contains(expected),
            "{text:?} gave {error:?}, expected {expected:?}"
        );
    }
}

#[test]
fn more_interfaces_than_capture_threads_are_refused() {
    let names: Vec<String> = (0..33).map(|number| format!("\"e{number}\"")).collect();
    let text = format!(
        "hunter.sink = \"o\"\nhunter.interfaces = [{}]",
        names.join(",")
    );
    let error = toml(&text).unwrap_err().to_string();
    assert!(error.starts_with("33 interfaces are named"), "{error}");
}

#[test]
fn several_processors_keep_their_order() {
    let names = |config: Config| config.processor_list();
    let text = "hunter.insecure = true\nhunter.processor_addr = ";
    let list = toml(&format!("{text}[\"b:2\", \"[::1]:3\", \"a:1\"]"));
    assert_eq!(names(list.unwrap()), "b:2, [::1]:3, a:1");
    let one = toml(&format!("{text}\"b:2, a:1\""));
    assert_eq!(names(one.unwrap()), "b:2, a:1");
    let yaml = yaml("hunter: {insecure: true, processor_addr: ['b:2', 'a:1']}");
    assert_eq!(names(yaml.unwrap()), "b:2, a:1");
    // Given several times, a flag adds to the list.
    let twice = ["b:2", "a:1,c:3"].map(|text| Kind::Addresses.parse(text).unwrap());
    let joined = Kind::Addresses.join(twice).unwrap();
    assert_eq!(joined.to_string(), "b:2,a:1,c:3");
}

#[test]
fn a_flag_goes_before_a_file() {
    let config = with_flags(
        MINIMAL,
        &[("hunter.batch_size", "7"), ("hunter.insecure", "true")],
    )
    .unwrap();
    assert_eq!(config.batch_size, 7);
    // A choice made on the command line sets aside what a file says about the other side of the choice.
    let file = "hunter.processor_addr = \"p:1\"\nhunter.interfaces = [\"eth0\"]\nhunter.tls.ca_file = \"ca\"";
    let config = with_flags(
        file,
        &[("hunter.sink", "out"), ("hunter.read_files", "a.pcap")],
    )
    .unwrap();
    assert!(config.embedded_sink.is_some() && matches!(config.source, Source::Files(_)));
    assert_eq!(config.transport, Transport::Insecure);
    assert_eq!(
        with_flags(file, &[("hunter.insecure", "true")])
            .unwrap()
            .transport,
        Transport::Insecure
    );
    assert!(
        with_flags(
            file,
            &[("hunter.insecure", "true"), ("hunter.tls.ca_file", "x")]
        )
        .is_err()
    );
}

#[test]
fn daemons_read_what_lc_hunt_resolved() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("effective.toml");
    let file = "hunter.processor_addr = \"p:1\"\nhunter.interfaces = [\"eth0\"]\nhunter.tls.ca_file = \"ca\"\nhunter.api_key = \"k\\\"ey\"";
    let mut values = Values::defaults();
    values.apply_toml(Path::new("test.toml"), file).unwrap();
    for (key, text) in [
        ("hunter.sink", "out"),
        ("hunter.read_files", "a b.pcap"),
        ("hunter.replay_rate", "2.5x"),
    ] {
        let setting = by_key(key).unwrap();
        values.set(
            setting,
            setting.kind.parse(text).unwrap(),
            Origin::Flag(setting.flag.unwrap()),
        );
    }
    let mut config = Config::from_values(&values).unwrap();
    config.processors[0].port = 4711;
    config.embedded_sink = None;
    config.pin(&mut values);
    fs::write(&path, values.to_toml()).unwrap();
    assert_eq!(Config::load(&path).unwrap(), config);
    assert_eq!(config.api_key.as_ref().unwrap().reveal(), "k\"ey");
    assert!(!values.describe().contains("k\\\"ey"), "a secret is shown");
    assert!(
        !format!("{config:?}").contains("k\\\"ey"),
        "a secret is shown"
    );

    fs::write(&path, "hunter.sink = \"out\"").unwrap();
    let error = Config::load(&path).unwrap_err().to_string();
    assert!(
        error.contains("hunter.sink works only with lc-hunt itself"),
        "{error}"
    );
}

#[test]
fn unreadable_files_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    for (path, expected) in [
        (dir.path().join("absent.toml"), "No such file"),
        (
            dir.path().join("config.txt"),
            "must end in .toml, .yaml or .yml",
        ),
        (PathBuf::from("/dev/zero.toml"), "No such file"),
    ] {
        let error = Config::load(&path).unwrap_err().to_string();
        assert!(
            error.contains(expected) && error.contains(path.to_str().unwrap()),
            "{error}"
        );
    }
    let directory = dir.path().join("directory.toml");
    fs::create_dir(&directory).unwrap();
    assert!(
        Config::load(&directory)
            .unwrap_err()
            .to_string()
            .contains("not a regular file")
    );
    let binary = dir.path().join("binary.toml");
    fs::write(&binary, b"\xff\xfe\0").unwrap();
    assert!(
        Config::load(&binary)
            .unwrap_err()
            .to_string()
            .contains("UTF-8")
    );
}

#[test]
fn files_are_searched_in_the_documented_order() {
    let paths = search_paths(Some(Path::new("/h")));
    let paths: Vec<&str> = paths
        .iter()
        .map(|path| path.to_str().unwrap())
        .filter(|path| !path.ends_with(".yml"))
        .collect();
    assert_eq!(
        paths,
        [
            "/h/.config/lc-hunt/config.toml",
            "/etc/lc-hunt/config.toml",
            "/h/.config/lippycat/config.yaml",
            "/h/.config/config.yaml",
            "/h/config.yaml",
            "/h/.config/lippycat/lippycat.yaml",
            "/h/.config/lippycat.yaml",
            "/h/lippycat.yaml",
        ]
    );
}

#[test]
fn rings_are_powers_of_two_and_share_the_room() {
    for (size, workers, rx, tx) in [
        (10_000, 1, 32 << 20, 32 << 20),
        (10_000, 4, 8 << 20, 8 << 20),
        (1, 1, 2 << 20, 32 << 20),
    ] {
        let config = toml(&format!(
            "{MINIMAL}hunter.buffer_size = {size}\nhunter.workers = {workers}"
        ))
        .unwrap();
        assert_eq!(
            (config.rx_ring_bytes(), config.tx_ring_bytes()),
            (rx, tx),
            "{size} packets, {workers} workers"
        );
    }
}

#[test]
fn the_table_is_sound() {
    for (i, setting) in SETTINGS.iter().enumerate() {
        if let Some(default) = setting.default {
            let value = setting
                .kind
                .parse(default)
                .unwrap_or_else(|reason| panic!("{}: {reason}", setting.key));
            assert_eq!(
                setting.kind.parse(&value.to_string()),
                Ok(value),
                "{}",
                setting.key
            );
        }
        for other in &SETTINGS[i + 1..] {
            assert_ne!(setting.key, other.key);
            let shared = setting.modes.iter().any(|mode| other.modes.contains(mode));
            assert!(
                !shared || setting.flag.is_none() || setting.flag != other.flag,
                "--{:?} twice",
                setting.flag
            );
            assert!(
                !shared || setting.short.is_none() || setting.short != other.short,
                "-{:?} twice",
                setting.short
            );
            for variable in setting.environment() {
                assert!(!other.environment().contains(&variable), "{variable} twice");
            }
        }
    }
}

#[test]
fn environment_names_are_those_of_the_reference_and_settable_ones() {
    let names = |key: &str| by_key(key).unwrap().environment();
    assert_eq!(
        names("hunter.batch_size"),
        ["LC_HUNT_BATCH_SIZE", "HUNTER.BATCH_SIZE"]
    );
    assert_eq!(names("promiscuous"), ["LC_HUNT_PROMISCUOUS", "PROMISCUOUS"]);
    assert_eq!(
        names("hunter.insecure"),
        ["LC_HUNT_INSECURE", "HUNTER.INSECURE", "INSECURE"]
    );
    assert!(names("hunter.log_level").contains(&"LOG_LEVEL".to_owned()));
    assert!(names("hunter.api_key").contains(&"LC_HUNT_API_KEY".to_owned()));
}

#[test]
fn texts_become_values_once() {
    let ok = |kind: Kind, text: &str| kind.parse(text).unwrap();
    assert_eq!(
        ok(Kind::Duration, "1m30s"),
        Value::Duration(Duration::from_secs(90))
    );
    assert_eq!(
        ok(Kind::Duration, "1.5s"),
        Value::Duration(Duration::from_millis(1500))
    );
    assert_eq!(ok(Kind::Ports, "80, 443"), Value::Ports(vec![80, 443]));
    assert_eq!(
        ok(Kind::PortRanges, "1-2,3-3"),
        Value::PortRanges(vec![(1, 2), (3, 3)])
    );
    assert_eq!(ok(Kind::Rate, "10x"), Value::Rate(ReplayRate::Times(10.0)));
    assert_eq!(
        ok(Kind::Rate, "5000pps"),
        Value::Rate(ReplayRate::PacketsPerSecond(5000.0))
    );
    for (kind, text) in [
        (Kind::Duration, ""),
        (Kind::Duration, "5"),
        (Kind::Duration, "1e30s"),
        (Kind::Duration, "-1s"),
        (Kind::Rate, "nanx"),
        (Kind::Rate, "infpps"),
        (Kind::Rate, "0x"),
        (Kind::Addresses, "a b:1"),
        (Kind::Addresses, "http://a:1"),
        (Kind::Addresses, ":1"),
        (Kind::Addresses, "[nonsense]:1"),
        (Kind::Addresses, "a:1,,b:2"),
        (Kind::Addresses, "a:1,"),
        (Kind::Addresses, "a:1,b"),
        (Kind::Addresses, ""),
        (Kind::Path, ""),
        (Kind::Text, "a\0b"),
    ] {
        assert!(kind.parse(text).is_err(), "{kind:?} took {text:?}");
    }
}

proptest! {
    /// Whatever stands in a file, the answer is a configuration or an error with a text.
    #[test]
    fn no_file_breaks_the_reader(text in "(hunter|voip|dns|insecure|esp_null|[a-z.\\[\\]{}:=\"' \n0-9-]){0,60}") {
        for result in [toml(&text), yaml(&text)] {
            if let Err(error) = result {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }

    /// What a kind accepts, it accepts again in the form in which it is written out.
    #[test]
    fn values_survive_writing(index in 0..SETTINGS.len(), text in "[0-9a-z.:,x -]{0,12}") {
        let kind = SETTINGS[index].kind;
        if let Ok(value) = kind.parse(&text)
            && !matches!(value, Value::List(_))
        {
            prop_assert_eq!(kind.parse(&value.to_string()), Ok(value));
        }
    }
}
