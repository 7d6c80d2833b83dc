//! `lc-send`: puts the packets of a capture, or numbered frames, on a network interface at a steady rate.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use lc_tests::{capture, numbered};

/// Puts the packets of a capture, or numbered frames, on a network interface at a steady rate.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// The capture, with the interface's link type
    #[arg(required_unless_present = "numbered", conflicts_with = "numbered")]
    capture: Option<PathBuf>,
    /// Send so many numbered frames instead
    #[arg(long, value_name = "FRAMES")]
    numbered: Option<u64>,
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

fn send(cli: &Cli) -> Result<u64, Box<dyn std::error::Error>> {
    let packets = match &cli.capture {
        Some(path) => capture::read(path)?.packets,
        None => Vec::new(),
    };
    let count = cli.numbered.unwrap_or(packets.len() as u64);
    let mut interface = pcap::Capture::from_device(cli.interface.as_str())?.open()?;
    let start = Instant::now();
    for number in 0..count {
        let due = Duration::from_secs_f64(number as f64 / f64::from(cli.rate));
        let early = due.saturating_sub(start.elapsed());
        if !early.is_zero() {
            thread::sleep(early);
        }
        match cli.numbered {
            Some(_) => interface.sendpacket(numbered::frame(number))?,
            None => interface.sendpacket(&packets[number as usize].bytes[..])?,
        }
    }
    Ok(count)
}
