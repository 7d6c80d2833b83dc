//! `lc-bench`: makes traffic and measures lc-hunt with it.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lc_bench::calls;
use lc_bench::detect;
use lc_bench::generate::{
    Flood, FloodSettings, FrameSize, Length, Mix, Order, Settings, Traffic, TrunkSettings,
    write_pcap,
};
use lc_bench::modes;
use lc_bench::reload;
use lc_bench::ring;
use lc_bench::throughput::{self, Cell, Load, Measured};
use lc_daemon::exit::Exit;
use lc_daemon::signals::Signals;

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
    /// Measure one ring between two processes against a plain copy of the same bytes
    Ring(Ring),
    /// Measure the whole packet path as real processes, fed from memory
    Throughput(Throughput),
    /// Measure detection on captures, against nDPI's where ndpiReader is installed
    Detect(Detect),
    /// Replace all filters again and again while packets flow; check what arrives, and time it
    Reload(Reload),
    /// Many calls at the same time, through all phases of their lives: memory of a call, time of a packet
    Calls(Calls),
    /// The same mixed traffic in each mode: time of a packet; and beside tshark, where that is installed
    Modes(Modes),
    /// The capture daemon of `modes`
    #[command(hide = true)]
    ModesCapture {
        /// Configuration of the daemons
        #[arg(long)]
        config: PathBuf,
        /// Packets that are repeated
        #[arg(long)]
        packets: u64,
    },
    /// The capture daemon of `calls`
    #[command(hide = true)]
    CallsCapture {
        /// Configuration of the daemons
        #[arg(long)]
        config: PathBuf,
        /// Calls
        #[arg(long)]
        calls: u64,
        /// Percentage of them that match
        #[arg(long)]
        matched: u8,
        /// Rounds of media in each phase
        #[arg(long)]
        rounds: u64,
    },
    /// The capture daemon of `reload`
    #[command(hide = true)]
    ReloadCapture {
        /// Configuration of the daemons
        #[arg(long)]
        config: PathBuf,
    },
    /// The capture daemon of `throughput`
    #[command(hide = true)]
    Capture {
        /// Configuration of the daemons
        #[arg(long)]
        config: PathBuf,
        /// Bytes of a frame
        #[arg(long)]
        size: u16,
        /// Flows
        #[arg(long)]
        flows: usize,
    },
    /// The reading half of `ring`
    #[command(hide = true)]
    RingReader {
        /// The ring's memory
        ring: PathBuf,
        /// The reader's cursor
        cursor: PathBuf,
    },
}

#[derive(Args)]
struct Ring {
    /// Bytes of a packet
    #[arg(long, value_name = "BYTES", default_value_t = 350,
        value_parser = clap::value_parser!(u32).range(1..=65_536))]
    size: u32,
    /// Size of the ring in MiB: a power of two
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = ring_mib)]
    ring: u64,
    /// Packet bytes of each round, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 2_048,
        value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    bytes: u64,
    /// Rounds of each kind
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Packets that the writer makes visible at a time
    #[arg(long, value_name = "PACKETS", default_value_t = 1_024,
        value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
}

#[derive(Args)]
struct Throughput {
    /// Frame sizes in bytes
    #[arg(long, value_delimiter = ',', default_value = "64,350,1000,1500",
        value_parser = clap::value_parser!(u16).range(64..=9216))]
    sizes: Vec<u16>,
    /// Numbers of flows
    #[arg(long, value_delimiter = ',', default_value = "1000,100000,1000000")]
    flows: Vec<usize>,
    /// Address filters in force, none of which matches: nothing is forwarded
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, conflicts_with = "allow",
        value_parser = clap::value_parser!(u32).range(1..=65_536))]
    filters: u32,
    /// No filters: everything is forwarded to a processor that discards it
    #[arg(long)]
    allow: bool,
    /// Worker processes
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Measured seconds of each size and number of flows
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// A further line of the daemons' configuration, such as `hunter.batch_size = 512`; repeatable
    #[arg(long, value_name = "LINE")]
    set: Vec<String>,
}

#[derive(Args)]
struct Detect {
    /// Folder whose captures are read, folders within it included; Ethernet only
    #[arg(long, value_name = "DIR")]
    captures: PathBuf,
    /// How often the captures are repeated, each time between other addresses. ndpiReader holds 200,000 flows
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(1..))]
    repeats: u8,
    /// Rounds of each measurement
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
}

#[derive(Args)]
struct Reload {
    /// Filters of each set, of all types
    #[arg(long, value_name = "COUNT", default_value_t = 100_000,
        value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    filters: u32,
    /// How often they are replaced
    #[arg(long, value_name = "COUNT", default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=1_000))]
    generations: u32,
    /// Packets to flow meanwhile, at least
    #[arg(long, default_value_t = 1_000_000)]
    packets: u64,
    /// Worker processes
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Seconds before the first change, to see how the machine behaves without
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    quiet: u64,
}

#[derive(Args)]
struct Calls {
    /// Calls, all of which stand at the same time
    #[arg(long, value_name = "COUNT", default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    calls: u64,
    /// Percentage of the calls that match, each by a filter of its own
    #[arg(long, value_name = "PERCENT", default_value_t = 10,
        value_parser = clap::value_parser!(u8).range(0..=100))]
    matched: u8,
    /// Seconds of media in each of three phases: of calls that don't match, of those that do, of all
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Worker processes
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// A further line of the daemons' configuration; repeatable
    #[arg(long, value_name = "LINE")]
    set: Vec<String>,
}

#[derive(Args)]
struct Modes {
    /// Packets that are made, and repeated
    #[arg(long, default_value_t = 400_000, value_parser = clap::value_parser!(u64).range(100_000..=10_000_000))]
    packets: u64,
    /// Filters in force, none of which matches
    #[arg(long, value_name = "COUNT", default_value_t = 1_000,
        value_parser = clap::value_parser!(u32).range(1..=65_536))]
    filters: u32,
    /// Only these modes, together
    #[arg(long, value_name = "MODE", value_delimiter = ',')]
    only: Vec<String>,
    /// Worker processes
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Measured seconds of each mode
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// A further line of the daemons' configuration; repeatable
    #[arg(long, value_name = "LINE")]
    set: Vec<String>,
}

/// A size of a ring.
fn ring_mib(text: &str) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|mib: &u64| mib.is_power_of_two() && *mib <= 1_024)
        .ok_or_else(|| "a ring has 1, 2, 4, ... or 1024 MiB".into())
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
    let done = |()| Exit::Ok;
    let result = match Cli::parse().command {
        Command::Generate(flags) => generate(&flags).map(done),
        Command::Ring(flags) => measure_ring(&flags).map(done),
        Command::Throughput(flags) => measure_throughput(&flags).map(done),
        Command::Detect(flags) => measure_detection(&flags).map(done),
        Command::Reload(flags) => reload_filters(&flags).map(done),
        Command::Calls(flags) => measure_calls(&flags).map(done),
        Command::Modes(flags) => measure_modes(&flags).map(done),
        Command::ModesCapture { config, packets } => modes::capture(&config, packets),
        Command::CallsCapture {
            config,
            calls: count,
            matched,
            rounds,
        } => calls::capture(&config, trunk(count, matched, rounds)),
        Command::ReloadCapture { config } => reload::capture(&config),
        Command::Capture {
            config,
            size,
            flows,
        } => throughput::capture(&config, Cell { size, flows }),
        Command::RingReader { ring, cursor } => {
            ring::read(&ring, &cursor).map(done).map_err(Into::into)
        }
    };
    match result {
        Ok(exit) => exit.into(),
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

fn measure_ring(flags: &Ring) -> Result<(), Box<dyn std::error::Error>> {
    let plan = ring::Plan {
        packet_bytes: flags.size as usize,
        ring_bytes: flags.ring << 20,
        round_bytes: flags.bytes << 20,
        rounds: usize::from(flags.rounds),
        batch: flags.batch,
    };
    let report = ring::measure(&plan, &std::env::current_exe()?)?;
    println!(
        "{} bytes a packet, ring of {} MiB ({:?} pages), {} rounds of {} MiB; median (range)",
        flags.size, flags.ring, report.backing, flags.rounds, flags.bytes
    );
    println!("ring                 {} GB/s", report.ring);
    println!("memcpy, one core     {} GB/s", report.one_core);
    println!("memcpy, two cores    {} GB/s", report.two_cores);
    println!("ring / one core      {}", report.to_one_core);
    println!("ring / two cores     {}", report.to_two_cores);
    Ok(())
}

fn measure_throughput(flags: &Throughput) -> Result<(), Box<dyn std::error::Error>> {
    let own_program = std::env::current_exe()?;
    let plan = throughput::Plan {
        programs: own_program.parent().map(PathBuf::from).unwrap_or_default(),
        own_program,
        load: if flags.allow {
            Load::Allow
        } else {
            Load::Filters(flags.filters as usize)
        },
        workers: flags.workers,
        time: Duration::from_secs(flags.seconds),
        settings: flags.set.clone(),
    };
    let signals = Signals::install()?;
    println!(
        "{:>5} {:>8} {:>8} {:>8} {:>8} {:>8}  ns a packet by process",
        "bytes", "flows", "Gbit/s", "Mpkt/s", "acked/s", "dropped"
    );
    for &size in &flags.sizes {
        for &flows in &flags.flows {
            let cell = Cell { size, flows };
            let measured = throughput::measure(&plan, &cell.capture(), &signals)?;
            println!("{size:>5} {flows:>8} {}", rates(&measured));
        }
    }
    Ok(())
}

fn trunk(calls: u64, wanted_percent: u8, rounds: u64) -> TrunkSettings {
    TrunkSettings {
        seed: 1,
        calls,
        wanted_percent,
        rounds,
        start_seconds: 1_767_225_600,
    }
}

fn measure_calls(flags: &Calls) -> Result<(), Box<dyn std::error::Error>> {
    let own_program = std::env::current_exe()?;
    let plan = calls::Plan {
        programs: own_program.parent().map(PathBuf::from).unwrap_or_default(),
        own_program,
        // 50 packets a second each way.
        trunk: trunk(flags.calls, flags.matched, 50 * flags.seconds),
        workers: flags.workers,
        settings: flags.set.clone(),
    };
    let report = calls::measure(&plan, &Signals::install()?)?;
    println!(
        "{} calls, {} % of them match, {} workers; {} packets captured, {} forwarded, none lost",
        flags.calls, flags.matched, flags.workers, report.captured, report.forwarded
    );
    let memory = report.memory;
    println!(
        "bytes a call: {:.0}; own memory {:.0}, flow table {:.0}, log {:.0}; {:.0} by the worker's reckoning",
        memory.all(),
        memory.private,
        memory.flows,
        memory.log,
        memory.reckoned
    );
    println!(
        "{:<14} {:>10} {:>10} {:>8} {:>14} {:>14}",
        "phase", "packets", "matched", "s", "worker ns/pkt", "Mpkt/s a core"
    );
    for phase in &report.phases {
        println!(
            "{:<14} {:>10} {:>10} {:>8.2} {:>14.0} {:>14.3}",
            format!("{:?}", phase.phase),
            phase.packets,
            phase.wanted,
            phase.seconds,
            phase.worker_ns,
            1e3 / phase.worker_ns
        );
    }
    Ok(())
}

fn reload_filters(flags: &Reload) -> Result<(), Box<dyn std::error::Error>> {
    let own_program = std::env::current_exe()?;
    let plan = reload::Plan {
        programs: own_program.parent().map(PathBuf::from).unwrap_or_default(),
        own_program,
        filters: flags.filters,
        generations: flags.generations,
        packets: flags.packets,
        workers: flags.workers,
        quiet: Duration::from_secs(flags.quiet),
    };
    println!(
        "{} filters of 18 types, replaced {} times, {} workers",
        plan.filters, plan.generations, plan.workers
    );
    let judged = reload::judge(&plan)?;
    let [quiet, changing] = judged.batch;
    let [quiet_used, changing_used] = judged.batch_processor;
    println!(
        "one thread judges, one compiles, {} packets:",
        judged.packets
    );
    println!("  read and compiled in        {}", times(&judged.compiled));
    println!("  set in memory               {} KiB", judged.bytes >> 10);
    let [exchange, exchange_used] = judged.exchange;
    println!("  exchange, longest           {exchange:.1?}; processor time {exchange_used:.1?}");
    println!("  64 packets, longest         {changing:.1?}; with filters that stay {quiet:.1?}");
    println!(
        "  the same, processor time    {changing_used:.1?}; with filters that stay {quiet_used:.1?}"
    );
    let report = reload::measure(&plan, &Signals::install()?)?;
    println!("processes, {} packets captured:", report.captured);
    println!(
        "  arrived                     {}, as many as every set asks for; {} judged in the middle of a change",
        report.arrived, report.in_between
    );
    println!("  generations published       {}", report.published);
    println!(
        "  from file to all workers    {}",
        times(&report.until_in_force)
    );
    println!(
        "  no packet judged, longest   {:.1?}; with filters that stay {:.1?}",
        report.standstill[1], report.standstill[0]
    );
    println!(
        "  none acknowledged, longest  {:.1?}; with filters that stay {:.1?}",
        report.no_acks[1], report.no_acks[0]
    );
    for (name, kib) in &report.peak_kib {
        println!("  peak memory of {name:<12} {kib} KiB");
    }
    Ok(())
}

/// The shortest, the median and the longest.
fn times(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    match times.as_slice() {
        [] => "nothing".to_owned(),
        [first, .., last] => format!(
            "{first:.1?} to {last:.1?}, median {:.1?}",
            times[times.len() / 2]
        ),
        [only] => format!("{only:.1?}"),
    }
}

/// As the columns of `throughput` and `modes` want it.
fn rates(measured: &Measured) -> String {
    let stages: Vec<String> = measured
        .stages
        .iter()
        .map(|(name, time)| format!("{name} {time:.0}"))
        .collect();
    format!(
        "{:>8.2} {:>8.3} {:>8.0} {:>8}  {}",
        measured.gbit_per_second,
        measured.packets_per_second / 1e6,
        measured.acked_per_second,
        measured.dropped,
        stages.join(", ")
    )
}

fn measure_modes(flags: &Modes) -> Result<(), Box<dyn std::error::Error>> {
    let own_program = std::env::current_exe()?;
    let plan = throughput::Plan {
        programs: own_program.parent().map(PathBuf::from).unwrap_or_default(),
        own_program,
        load: Load::Names(flags.filters as usize),
        workers: flags.workers,
        time: Duration::from_secs(flags.seconds),
        settings: flags.set.clone(),
    };
    let signals = Signals::install()?;
    println!(
        "{:>23} {:>8} {:>8} {:>8} {:>8}  ns a packet by process",
        "modes", "Gbit/s", "Mpkt/s", "acked/s", "dropped"
    );
    let only: Vec<&str> = flags.only.iter().map(String::as_str).collect();
    let all = match only.as_slice() {
        [] => modes::MODES.as_slice(),
        only => &[only],
    };
    for modes in all {
        let measured = modes::measure(&plan, modes, flags.packets, &signals)?;
        println!("{:>23} {}", modes.join(","), rates(&measured));
    }
    if !only.is_empty() {
        return Ok(());
    }
    let compared = modes::compare(&plan.programs, flags.packets)?;
    let rate = |time: Duration| compared.packets as f64 / time.as_secs_f64() / 1e3;
    println!(
        "a file of {} packets, modes dns,http,tls,email, all forwarded: {:.2?}, {:.0} thousand packets/s",
        compared.packets,
        compared.ours,
        rate(compared.ours)
    );
    match compared.tshark {
        Some(theirs) => println!(
            "tshark -T fields: {theirs:.2?}, {:.0} thousand packets/s; {:.1} times as long",
            rate(theirs),
            theirs.as_secs_f64() / compared.ours.as_secs_f64()
        ),
        None => println!("tshark is not installed, so there is nothing to compare with"),
    }
    Ok(())
}

fn measure_detection(flags: &Detect) -> Result<(), Box<dyn std::error::Error>> {
    let plan = detect::Plan {
        captures: flags.captures.clone(),
        repeats: flags.repeats,
        rounds: usize::from(flags.rounds),
    };
    let report = detect::measure(&plan)?;
    println!(
        "{} packets, {:.0} MB, {} rounds; millions of packets per second, median (range)",
        report.packets,
        report.bytes as f64 / 1e6,
        flags.rounds
    );
    let ours = &report.ours;
    println!("lc-hunt, detection                    {}", ours.detection);
    println!(
        "lc-hunt, detection and descriptions   {}",
        ours.descriptions
    );
    println!(
        "lc-hunt knows                         {} of {} packets, {} of {} flows",
        ours.known_packets, report.packets, ours.known_flows, ours.flows
    );
    let Some(ndpi) = &report.ndpi else {
        println!(
            "ndpiReader is not installed (Debian: libndpi-bin), so there is nothing to compare with"
        );
        return Ok(());
    };
    println!("nDPI, as ndpiReader tells it          {}", ndpi.whole);
    println!("nDPI, without reading the file        {}", ndpi.net);
    println!(
        "nDPI has                              {} flows, {} of them unknown",
        ndpi.flows, ndpi.unknown_flows
    );
    println!(
        "lc-hunt, detection / nDPI net         {}",
        report.ratios.detection
    );
    println!(
        "lc-hunt, with descriptions / nDPI net {}",
        report.ratios.descriptions
    );
    Ok(())
}
