//! `lc-send`: puts the packets of a capture on a network interface at a steady rate.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use lc_tests::capture;

/// Puts the packets of a capture on a network interface at a steady rate.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// The capture, with the interface's link type
    capture: PathBuf,
    /// The interface
    #[arg(long, value_name = "NAME")]
    interface: String,
    /// Packets per second
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
}

fn main() -> ExitCode {
    match send(&Cli::parse()) {
        Ok(packets) => {
            println!("{packets} packets sent");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("lc-send: {error}");
            ExitCode::FAILURE
        }
    }
}

fn send(cli: &Cli) -> Result<usize, Box<dyn std::error::Error>> {
    let packets = capture::read(&cli.capture)?.packets;
    let mut interface = pcap::Capture::from_device(cli.interface.as_str())?.open()?;
    let start = Instant::now();
    for (number, packet) in packets.iter().enumerate() {
        let due = Duration::from_secs_f64(number as f64 / f64::from(cli.rate));
        thread::sleep(due.saturating_sub(start.elapsed()));
        interface.sendpacket(&packet.bytes[..])?;
    }
    Ok(packets.len())
}
