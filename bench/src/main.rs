//! `lc-bench`: makes traffic and measures lc-hunt with it.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lc_bench::generate::{
    Flood, FloodSettings, FrameSize, Length, Mix, Order, Settings, Traffic, write_pcap,
};

/// Makes traffic and measures lc-hunt with it.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a capture file whose every byte follows from the flags
    Generate(Generate),
}

#[derive(Args)]
struct Generate {
    /// The pcap file to write (nanosecond times, Ethernet)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Where all randomness comes from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stop after this many packets [default: 50000]
    #[arg(long, conflicts_with = "duration")]
    packets: Option<u64>,
    /// Stop after this many seconds of capture time
    #[arg(long, value_name = "SECONDS")]
    duration: Option<u64>,
    /// Conversations that run side by side
    #[arg(long, default_value_t = 100)]
    flows: usize,
    /// Frame length of bulk transfers: 64 to 9216 bytes, or `imix`
    #[arg(long, default_value = "1000")]
    size: FrameSize,
    /// Shares of the kinds of traffic, by packets
    #[arg(long, default_value_t = Mix::default())]
    mix: Mix,
    /// Percentage of the conversations over IPv6
    #[arg(long, value_name = "PERCENT", default_value_t = 20)]
    ipv6: u8,
    /// Percentage of the conversations with a VLAN tag
    #[arg(long, value_name = "PERCENT", default_value_t = 10)]
    vlan: u8,
    /// Capture time of the first packet, in seconds since the Unix epoch
    #[arg(long, value_name = "SECONDS", default_value_t = 1_767_225_600)]
    start_time: u64,
    /// Instead of conversations: equal UDP frames of `--size` over `--flows` flows, in this order
    #[arg(long, value_name = "ORDER", conflicts_with_all = ["mix", "duration"])]
    flood: Option<FloodOrder>,
}

#[derive(Clone, Copy, ValueEnum)]
enum FloodOrder {
    /// One flow after the other
    RoundRobin,
    /// Few flows send much, many send little
    Zipf,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Generate(flags) => generate(&flags),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lc-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn generate(flags: &Generate) -> Result<(), Box<dyn std::error::Error>> {
    let packets = flags.packets.unwrap_or(50_000);
    let written = match flags.flood {
        Some(order) => {
            let FrameSize::Fixed(size) = flags.size else {
                return Err("a flood has frames of one size; give --size a number".into());
            };
            let mut flood = Flood::new(FloodSettings {
                seed: flags.seed,
                packets,
                flows: flags.flows,
                size,
                order: match order {
                    FloodOrder::RoundRobin => Order::RoundRobin,
                    FloodOrder::Zipf => Order::Zipf,
                },
                ipv6_percent: flags.ipv6,
                vlan_percent: flags.vlan,
                start_seconds: flags.start_time,
            })?;
            write_pcap(&mut flood, &flags.out)?
        }
        None => {
            let length = flags
                .duration
                .map_or(Length::Packets(packets), Length::Seconds);
            let mut traffic = Traffic::new(Settings {
                seed: flags.seed,
                length,
                flows: flags.flows,
                size: flags.size,
                mix: flags.mix.clone(),
                ipv6_percent: flags.ipv6,
                vlan_percent: flags.vlan,
                start_seconds: flags.start_time,
            })?;
            write_pcap(&mut traffic, &flags.out)?
        }
    };
    println!("{written} packets written to {}", flags.out.display());
    Ok(())
}
