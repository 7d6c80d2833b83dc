//! The binary: flags, signals, and what a SIGKILL leaves behind.
#![allow(clippy::unwrap_used)]

mod client;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use lc_sink::Summary;
use pcap_file::pcapng::{Block, PcapNgReader};
use prost::Message;
use serde_json::Value;
use tokio_stream::StreamExt;
use tonic::Request;

use client::{Client, batch, packet};

/// A running `lc-sink`; killed if a test fails.
struct Program {
    child: Child,
    address: SocketAddr,
}

impl Program {
    fn start(folder: &Path, flags: &[&str]) -> Self {
        let port_file = folder.join("port");
        let _ = fs::remove_file(&port_file);
        let mut child = command(folder, flags)
            .args(["--listen", "127.0.0.1:0", "--port-file", "port"])
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let port = loop {
            if let Ok(port) = fs::read_to_string(&port_file) {
                break port.trim().parse().unwrap();
            }
            assert!(
                child.try_wait().unwrap().is_none() && Instant::now() < deadline,
                "lc-sink did not start"
            );
            std::thread::sleep(Duration::from_millis(5));
        };
        Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }

    fn terminate(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        self.child.wait().unwrap()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(folder: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lc-sink"));
    command
        .current_dir(folder)
        .args(flags)
        .stderr(Stdio::null());
    command
}

#[tokio::test]
async fn sigterm_ends_it_with_a_summary() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path(), &["--summary", "summary.json", "--discard"]);
    let client = Client::connect(program.address).await;
    client.send(&[batch("h1", 1, vec![packet(1)])]).await;
    drop(client);
    assert_eq!(program.terminate().code(), Some(0));
    let summary: Summary =
        serde_json::from_slice(&fs::read(folder.path().join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary.totals.packets, 1);
}

/// Kills the sink again and again while a hunter sends, which sends again what was not acknowledged.
#[tokio::test]
async fn sigkill_loses_nothing_that_was_acknowledged() {
    const BATCHES: u64 = 4_000;
    let folder = tempfile::tempdir().unwrap();
    let flags = [
        "--json",
        "packets.jsonl",
        "--write-file",
        "packets.pcapng",
        "--summary",
        "summary.json",
    ];
    let mut acknowledged = 0;
    for run in 0.. {
        let program = Program::start(folder.path(), &flags);
        let client = Client::connect(program.address).await;
        let batches = (acknowledged + 1..=BATCHES).map(|sequence| {
            let packets = vec![packet(sequence), packet(sequence + 1)];
            bytes::Bytes::from(batch("h1", sequence, packets).encode_to_vec())
        });
        let batches = Request::new(tokio_stream::iter(batches.collect::<Vec<_>>()));
        let mut acks = lc_proto::passthrough::stream_packets(client.channel.clone(), batches)
            .await
            .unwrap()
            .into_inner();
        // A different moment in each run.
        let stop_at = acknowledged + 300 + 177 * run;
        while acknowledged < stop_at
            && let Some(Ok(ack)) = acks.next().await
        {
            acknowledged = ack.ack_sequence;
        }
        if acknowledged == BATCHES {
            drop((acks, client));
            assert_eq!(program.terminate().code(), Some(0));
            break;
        }
        program.kill();
        // Acknowledgements that were under way still count.
        while let Some(Ok(ack)) = acks.next().await {
            acknowledged = ack.ack_sequence;
        }
    }

    let summary: Summary =
        serde_json::from_slice(&fs::read(folder.path().join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary.hunters["h1"].sequences, [(1, BATCHES)]);
    let mut lines = BTreeMap::<u64, u64>::new();
    for line in fs::read_to_string(folder.path().join("packets.jsonl"))
        .unwrap()
        .lines()
    {
        let line: Value = serde_json::from_str(line).unwrap();
        *lines.entry(line["sequence"].as_u64().unwrap()).or_default() += 1;
    }
    assert!(lines.values().all(|count| count % 2 == 0), "half a batch");
    assert_eq!(lines.len() as u64, BATCHES);
    // The summary tells exactly what the files hold.
    assert_eq!(lines.values().sum::<u64>(), summary.totals.packets);
    assert_eq!(
        summary.totals.packets,
        2 * BATCHES + summary.totals.packets_again
    );
    let file = fs::read(folder.path().join("packets.pcapng")).unwrap();
    let mut reader = PcapNgReader::new(file.as_slice()).unwrap();
    let mut frames = 0;
    while let Some(block) = reader.next_block() {
        frames += u64::from(matches!(block.unwrap(), Block::EnhancedPacket(_)));
    }
    assert_eq!(frames, summary.totals.packets);
}

#[test]
fn bad_flags_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&[&str], i32, &str); 7] = [
        (&["--listen", "127.0.0.1:99999"], 2, "--listen"),
        (&["--tls-cert", "c.pem"], 2, "--tls-key"),
        (&["--ack-delay", "5"], 2, "not a duration"),
        (&["--flow", "fast"], 2, "pause:DURATION@N"),
        (&["--discard", "--json", "-"], 2, "--json"),
        (
            &["--json", "-", "--summary", "-", "--listen", "127.0.0.1:0"],
            78,
            "standard output",
        ),
        (
            &["--filters", "absent.yaml", "--listen", "127.0.0.1:0"],
            78,
            "absent.yaml",
        ),
    ];
    for (flags, code, text) in cases {
        let output = command(folder.path(), flags)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {error}");
        assert!(error.contains(text), "{flags:?}: {error}");
    }
}
