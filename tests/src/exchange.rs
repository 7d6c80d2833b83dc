//! A real exchange: SIPp calls SIPp through Kamailio, rtpengine relays the media, and lc-hunt listens at the switch between them, with tcpdump beside it.
//!
//! What belongs to which call is found out from tcpdump's file, by the text of the messages and the addresses and ports that they announce. Held against it is
//! what arrived: every packet of the wanted calls once, byte for byte, at the same time, with the Call-ID of its call; and none else. SIPp's own counts say
//! whether the messages are all there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fmt::{self, Display, Write};
use std::fs;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::tempdir;
use thiserror::Error;

use crate::capture::{self, Packet};
use crate::compare::Difference;
use crate::ipv4;
use crate::node::{Node, PATIENCE, counter};
use crate::process::{self, Running, is_installed, wait_for};
use crate::processor;
use crate::switch::{self, Switch};
use crate::words;

/// Programs that take part, all from Debian packages.
const PROGRAMS: [&str; 4] = ["sipp", "kamailio", "rtpengine", "tcpdump"];
/// Numbers of the hosts.
const CALLER: usize = 1;
const PROXY: usize = 2;
const CALLEE: usize = 3;
/// Users that call in turn, and the one whose calls are wanted.
const USERS: u32 = 10;
const WANTED: &str = "user-03";
/// Packets of audio that an end sends in a call, one each 20 ms.
const AUDIO: u64 = 50;
/// Packets of media that an end sends in a call: audio, and a report.
const MEDIA: u64 = AUDIO + 1;
/// Where SIPp, Kamailio and rtpengine listen.
const SIP_PORT: u16 = 5060;
const CONTROL_PORT: u16 = 2223;

/// What SIP is carried by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP, one connection for all calls.
    Tcp,
}

impl Transport {
    /// As SIPp says it.
    fn of_sipp(self) -> &'static str {
        match self {
            Self::Udp => "u1",
            Self::Tcp => "t1",
        }
    }

    /// Media of each transport have ports of their own.
    fn media_port(self) -> &'static str {
        match self {
            Self::Udp => "6000",
            Self::Tcp => "16000",
        }
    }
}

/// What happens.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Calls over each of the transports, at the same time.
    pub calls: u32,
    /// What SIP is carried by.
    pub transports: Vec<Transport>,
    /// Calls that begin in a second, over each.
    pub rate: u32,
    /// Whether the calls of one user in ten are wanted, instead of all.
    pub is_filtered: bool,
}

/// What arrived.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    /// Calls that were made.
    pub calls: u64,
    /// Their packets.
    pub packets: u64,
    /// Calls that were wanted.
    pub wanted: u64,
    /// Packets that arrived.
    pub arrived: u64,
    /// SIP messages among them.
    pub messages: u64,
    /// Packets of media among them.
    pub media: u64,
    /// Segments among all packets that carry parts of messages of several calls.
    pub shared: u64,
    /// Requests and responses that SIPp sent again.
    pub retransmissions: u64,
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} calls in {} packets ({} shared), {} of the calls wanted: {} packets arrived, each once, with {} messages ({} sent again) and {} packets of media",
            self.calls,
            self.packets,
            self.shared,
            self.wanted,
            self.arrived,
            self.messages,
            self.retransmissions,
            self.media,
        )
    }
}

/// What did not hold.
#[derive(Debug, Error)]
pub enum Failure {
    /// Calls failed, as they do where the machine is so busy that messages are repeated. That says nothing of lc-hunt.
    #[error("SIPp's calls failed: {0}")]
    Calls(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl From<String> for Failure {
    fn from(words: String) -> Self {
        Self::Other(words)
    }
}

/// Why there is no exchange: what is missing on this machine, if anything is.
pub fn missing() -> Option<String> {
    let is_missing = |program: &&&str| !is_installed(program);
    let missing: Vec<_> = PROGRAMS.iter().filter(is_missing).copied().collect();
    (!missing.is_empty()).then(|| format!("{} is not installed", missing.join(", ")))
}

impl Exchange {
    /// Lets it happen; `None` where no network namespace can be made.
    ///
    /// # Errors
    ///
    /// [`Failure`]
    pub fn run(&self) -> Option<Result<Report, Failure>> {
        let switch = Switch::new("exchange", 3)?;
        Some(self.run_on(&switch))
    }

    fn run_on(&self, switch: &Switch) -> Result<Report, Failure> {
        let folder = tempdir().map_err(words)?;
        let folder = folder.path();
        // SIPp writes where it stands, and others than root write here.
        open_to_all(folder)?;
        lay_out(folder)?;
        let _relay = start_relay(switch)?;
        let _proxy = start_proxy(switch, folder)?;
        let listener = Listener::start(switch, folder)?;
        let node = self.start_node(switch, folder)?;
        let counts = self.make_calls(switch, folder)?;

        let captured = |status: &Value| counter(status, "capture_packets_total");
        let quiet = |status: &Value| status["ledger"]["quiet"] == true;
        let status = node.wait_until(quiet);
        let seen = captured(&status.ok_or_else(|| words("the node does not come to rest"))?);
        let sent = listener.finish(seen)?;
        let outcome = node.terminate().map_err(words)?;
        if outcome.code() != 0 {
            return Err(format!("lc-hunt failed: {}", outcome.stderr).into());
        }
        self.compare(&sent, &folder.join("sink"), &counts)
            .map_err(|error| format!("{error}\n{}", outcome.stdout).into())
    }

    fn start_node(&self, switch: &Switch, folder: &Path) -> Result<Node, String> {
        let sink = folder.join("sink");
        let filters = folder.join("filters.toml");
        let text = processor::filter("wanted", "sip_user", WANTED);
        fs::write(&filters, text).map_err(words)?;
        let more: &[&OsStr] = match self.is_filtered {
            true => &["deny".as_ref(), "--filters".as_ref(), filters.as_ref()],
            false => &["allow".as_ref()],
        };
        let more = [&["--no-filter-policy".as_ref()], more].concat();
        let node = Node::capture(switch.name(), "voip", switch::INTERFACE, &sink, &more)?;
        let has_filters = |status: &Value| status["filters"]["workers"][0] != 0;
        if self.is_filtered {
            node.wait_until(has_filters).ok_or("no filters came")?;
        }
        Ok(node)
    }

    /// All calls, from the first to the last packet. What SIPp counted at each end.
    fn make_calls(&self, switch: &Switch, folder: &Path) -> Result<Counts, Failure> {
        let calls = self.calls.to_string();
        let rate = self.rate.to_string();
        let own = |number: usize| switch::address(number);
        let proxy = format!("{}:{SIP_PORT}", own(PROXY));
        let start = |transport: Transport, number: usize, more: &[&str]| {
            let (scenario, host) = match number {
                CALLER => ("caller", switch.host(CALLER)),
                _ => ("callee", switch.host(CALLEE)),
            };
            let address = own(number);
            let port = SIP_PORT.to_string();
            let scenario = format!("{scenario}.xml");
            let mut all = vec![
                "-c",
                "cd \"$0\" && exec sipp -nostdin \"$@\"",
                folder.to_str().unwrap_or_default(),
                "-sf",
                &scenario,
                "-t",
                transport.of_sipp(),
                "-i",
                &address,
                "-mi",
                &address,
                "-p",
                &port,
                "-mp",
                transport.media_port(),
                "-m",
                &calls,
                "-trace_counts",
            ];
            all.extend(more);
            process::start_in(host, Path::new("sh"), all).map_err(words)
        };
        let mut ends = Vec::new();
        for transport in &self.transports {
            let callee = start(*transport, CALLEE, &[])?;
            await_port(&callee, *transport, SIP_PORT)?;
            ends.push(callee);
        }
        for transport in &self.transports {
            let more = ["-inf", "users.csv", "-r", &rate, &proxy];
            ends.push(start(*transport, CALLER, &more)?);
        }
        let limit = PATIENCE + Duration::from_secs(u64::from(self.calls / self.rate));
        for end in ends {
            let outcome = end.finish(limit).map_err(words)?;
            if outcome.code() != 0 {
                let words = format!("{}\n{}", outcome.stderr, outcome.stdout);
                return Err(Failure::Calls(words));
            }
        }
        Ok(Counts::read(folder)?)
    }

    fn compare(&self, sent: &[Packet], sink: &Path, counts: &Counts) -> Result<Report, String> {
        let calls = Calls::find(sent);
        let is_wanted = |id: &&String| !self.is_filtered || calls.callers[*id] == WANTED;
        let wanted = calls.callers.keys().filter(is_wanted).count() as u64;
        let with_owners = sent.iter().zip(&calls.owners);
        let expected: Vec<(&Packet, &BTreeSet<String>)> = with_owners
            .filter(|(_, owners)| owners.iter().any(|id| is_wanted(&id)))
            .collect();
        let packets: Vec<Packet> = expected
            .iter()
            .map(|(packet, _)| comparable(packet))
            .collect();
        let capture = sink.join("packets.pcapng");
        let arrived = capture::read(&capture).map_err(words)?.packets;
        // What is told of further messages in a segment comes behind it, without bytes.
        let is_packet = |packet: &&Packet| !packet.bytes.is_empty();
        let with_bytes: Vec<Packet> = arrived.iter().filter(is_packet).map(comparable).collect();
        let (packets, with_directions) = (by_direction(&packets), by_direction(&with_bytes));
        for direction in packets.keys().chain(with_directions.keys()) {
            let of = |all: &Directions| all.get(direction).cloned().unwrap_or_default();
            let difference = Difference::between(&of(&packets), &of(&with_directions));
            if !difference.is_none() {
                return Err(format!("{direction:?}: {difference}"));
            }
        }
        let mut by_bytes: HashMap<&[u8], BTreeSet<&String>> = HashMap::new();
        for (packet, owners) in expected {
            let owners = owners.iter().filter(is_wanted);
            by_bytes.entry(&packet.bytes).or_default().extend(owners);
        }
        // Messages and media of each.
        let mut by_call: BTreeMap<String, [u64; 2]> = BTreeMap::new();
        let mut owners = None;
        let told = processor::told(sink).map_err(words)?;
        if told.len() != arrived.len() {
            return Err(format!(
                "{} packets are told of, not {}",
                told.len(),
                arrived.len()
            ));
        }
        for (packet, told) in arrived.iter().zip(told) {
            owners = by_bytes.get(&packet.bytes[..]).or(owners);
            let sip = told
                .metadata
                .as_ref()
                .and_then(|metadata| metadata.sip.as_ref());
            let is_owner = |(sip, owners): &(&processor::Sip, &BTreeSet<&String>)| {
                owners.contains(&sip.call_id)
            };
            let Some((sip, _)) = sip.zip(owners).filter(is_owner) else {
                return Err(format!("is of {owners:?}, but told otherwise: {told:?}"));
            };
            let [messages, media] = by_call.entry(sip.call_id.clone()).or_default();
            let is_udp = told
                .metadata
                .as_ref()
                .is_some_and(|metadata| metadata.transport == "UDP");
            match !sip.method.is_empty() || sip.response_code != 0 {
                true => *messages += 1,
                false => *media += u64::from(is_udp),
            }
        }
        let sum = |which: usize| by_call.values().map(|counts| counts[which]).sum();
        let report = Report {
            calls: calls.callers.len() as u64,
            packets: calls
                .owners
                .iter()
                .filter(|owners| !owners.is_empty())
                .count() as u64,
            wanted,
            arrived: with_bytes.len() as u64,
            messages: sum(0),
            media: sum(1),
            shared: calls
                .owners
                .iter()
                .filter(|owners| owners.len() > 1)
                .count() as u64,
            retransmissions: counts.retransmissions,
        };
        self.check_counts(&report, counts, &by_call)?;
        Ok(report)
    }

    /// Whether there are as many calls, messages and media as were made.
    fn check_counts(
        &self,
        report: &Report,
        counts: &Counts,
        by_call: &BTreeMap<String, [u64; 2]>,
    ) -> Result<(), String> {
        let made = u64::from(self.calls) * self.transports.len() as u64;
        let share = if self.is_filtered {
            made / u64::from(USERS)
        } else {
            made
        };
        let of_each = counts.messages / made;
        let is_whole = |[messages, media]: &[u64; 2]| {
            // Each end's media are seen twice, before and behind the relay.
            *media == 4 * MEDIA && (*messages == of_each || counts.retransmissions > 0)
        };
        let is_share = (report.calls, report.wanted, by_call.len() as u64) == (made, share, share);
        let is_all = self.is_filtered || report.messages == counts.messages;
        if is_share && is_all && by_call.values().all(is_whole) {
            return Ok(());
        }
        Err(format!(
            "{report}; but {made} calls were made, {share} of them wanted, with {} messages in all; of each call: {by_call:?}",
            counts.messages
        ))
    }
}

/// A packet as all that capture it see it: of TCP the kernel notes no time of arrival, so each takes its own.
fn comparable(packet: &Packet) -> Packet {
    const TCP: u8 = 6;
    let mut packet = packet.clone();
    if packet.bytes.get(23) == Some(&TCP) {
        packet.time_ns = 0;
    }
    packet
}

type Directions = BTreeMap<Option<[End; 2]>, Vec<Packet>>;

/// Packets by source and destination. What comes the other way at the same moment may be captured before or after, by each who captures.
fn by_direction(packets: &[Packet]) -> Directions {
    let mut directions = Directions::new();
    for packet in packets {
        let datagram = Datagram::of(packet);
        let direction = datagram.map(|datagram| [datagram.source, datagram.destination]);
        directions
            .entry(direction)
            .or_default()
            .push(packet.clone());
    }
    directions
}

/// What SIPp counted, at all ends.
#[derive(Debug, Default)]
struct Counts {
    /// Messages sent and received, again or for the first time.
    messages: u64,
    retransmissions: u64,
}

impl Counts {
    /// From all tables in `folder`: in the first line names, such as `3_200_Retrans`, in the last one totals.
    fn read(folder: &Path) -> Result<Self, String> {
        let mut counts = Self::default();
        for entry in fs::read_dir(folder).map_err(words)?.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if !name.ends_with("_counts.csv") {
                continue;
            }
            let text = fs::read_to_string(entry.path()).map_err(words)?;
            let (names, totals) = (text.lines().next(), text.lines().last());
            let (names, totals) = names.zip(totals).ok_or("SIPp counted nothing")?;
            for (name, total) in names.split(';').zip(totals.split(';')) {
                let again = name.ends_with("_Retrans");
                if again || name.ends_with("_Sent") || name.ends_with("_Recv") {
                    let total: u64 = total.parse().map_err(words)?;
                    counts.messages += total;
                    counts.retransmissions += u64::from(again) * total;
                }
            }
        }
        Ok(counts)
    }
}

/// The calls of a capture.
#[derive(Debug, Default)]
struct Calls {
    /// Who called, by Call-ID.
    callers: BTreeMap<String, String>,
    /// The Call-IDs of each packet; of a segment those of all messages that it carries a part of.
    owners: Vec<BTreeSet<String>>,
}

impl Calls {
    /// Of frames of Ethernet with IPv4.
    fn find(packets: &[Packet]) -> Self {
        let datagrams: Vec<_> = packets.iter().map(Datagram::of).collect();
        let mut streams: HashMap<[End; 2], Stream> = HashMap::new();
        for (number, datagram) in datagrams.iter().enumerate() {
            if let Some(datagram) = datagram {
                let ends = [datagram.source, datagram.destination];
                match datagram.carried {
                    Carried::Udp => {}
                    Carried::Tcp { sequence } => {
                        let stream = streams.entry(ends);
                        let stream = stream.or_insert_with(|| Stream::new(sequence));
                        stream.add(number, sequence, datagram.payload);
                    }
                }
            }
        }
        let mut calls = Self {
            owners: vec![BTreeSet::new(); packets.len()],
            ..Self::default()
        };
        // By the packet that makes them whole.
        let mut messages: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for stream in streams.values() {
            for (range, text) in stream.messages() {
                let carriers = stream.carriers(&range);
                for carrier in &carriers {
                    calls.owners[*carrier].extend(Text(&text).value("Call-ID").map(str::to_owned));
                }
                let last = carriers.last().copied().unwrap_or_default();
                messages.entry(last).or_default().push(text);
            }
        }
        let mut expected: HashMap<End, String> = HashMap::new();
        for (number, datagram) in datagrams.iter().enumerate() {
            for text in messages.remove(&number).unwrap_or_default() {
                calls.hear(&Text(&text), &mut expected);
            }
            let Some(datagram) = datagram.as_ref().filter(|one| one.carried == Carried::Udp) else {
                continue;
            };
            let owner = match Text::of(datagram.payload) {
                Some(text) => calls.hear(&text, &mut expected),
                None => expected.get(&datagram.destination).cloned(),
            };
            calls.owners[number].extend(owner);
        }
        calls
    }

    /// Takes note of a message. Its Call-ID.
    fn hear(&mut self, text: &Text<'_>, expected: &mut HashMap<End, String>) -> Option<String> {
        let id = text.value("Call-ID")?.to_owned();
        let user = text
            .value("From")?
            .split_once("<sip:")?
            .1
            .split_once('@')?
            .0;
        self.callers.insert(id.clone(), user.to_owned());
        if let Some((address, port)) = text.media() {
            expected.insert((address, port), id.clone());
            expected.insert((address, port + 1), id.clone());
        }
        Some(id)
    }
}

/// Address and port.
type End = ([u8; 4], u16);

/// What a packet carries its payload by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carried {
    Udp,
    /// `sequence` is the number of the first byte of the payload.
    Tcp {
        sequence: u32,
    },
}

/// A packet of UDP or TCP.
struct Datagram<'p> {
    source: End,
    destination: End,
    carried: Carried,
    payload: &'p [u8],
}

impl<'p> Datagram<'p> {
    fn of(packet: &'p Packet) -> Option<Self> {
        let bytes = &packet.bytes;
        // Ethernet with IPv4 without options.
        if bytes.get(12..15)? != [8, 0, 0x45] {
            return None;
        }
        let half = |at: usize| Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        let end = |at: usize, port: usize| Some((*bytes.get(at..)?.first_chunk()?, half(port)?));
        let (carried, start) = match bytes[23] {
            17 => (Carried::Udp, 42),
            6 => {
                let sequence = u32::from_be_bytes(*bytes.get(38..)?.first_chunk()?);
                let is_syn = bytes.get(47)? & 2 != 0;
                let sequence = sequence.wrapping_add(is_syn.into());
                (
                    Carried::Tcp { sequence },
                    34 + usize::from(bytes[46] >> 4) * 4,
                )
            }
            _ => return None,
        };
        Some(Self {
            source: end(26, 34)?,
            destination: end(30, 36)?,
            carried,
            payload: bytes.get(start..14 + usize::from(half(16)?))?,
        })
    }
}

/// A direction of a TCP connection.
struct Stream {
    /// Number of its first byte.
    first: u32,
    bytes: Vec<u8>,
    /// The packets, with what they carry of it.
    segments: Vec<(usize, Range<usize>)>,
}

impl Stream {
    fn new(first: u32) -> Self {
        Self {
            first,
            bytes: Vec::new(),
            segments: Vec::new(),
        }
    }

    fn add(&mut self, packet: usize, sequence: u32, payload: &[u8]) {
        if payload.is_empty() {
            return;
        }
        let start = sequence.wrapping_sub(self.first) as usize;
        let end = start + payload.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(payload);
        self.segments.push((packet, start..end));
    }

    /// Its messages, and where they stand.
    fn messages(&self) -> Vec<(Range<usize>, String)> {
        let mut messages = Vec::new();
        let mut start = 0;
        let text = String::from_utf8_lossy(&self.bytes);
        while let Some(head) = text[start..].find("\r\n\r\n") {
            let length = Text(&text[start..start + head]).value("Content-Length");
            let length: usize = length
                .and_then(|length| length.trim().parse().ok())
                .unwrap_or(0);
            let end = (start + head + 4 + length).min(text.len());
            messages.push((start..end, text[start..end].to_owned()));
            start = end;
        }
        messages
    }

    /// The packets that carry any of these bytes.
    fn carriers(&self, range: &Range<usize>) -> Vec<usize> {
        let meets = |other: &Range<usize>| other.start < range.end && range.start < other.end;
        let carriers = self.segments.iter().filter(|(_, own)| meets(own));
        carriers.map(|(packet, _)| *packet).collect()
    }
}

/// A SIP message.
struct Text<'p>(&'p str);

impl<'p> Text<'p> {
    fn of(payload: &'p [u8]) -> Option<Self> {
        let text = str::from_utf8(payload).ok()?;
        let first = text.lines().next()?;
        let is_sip = first.starts_with("SIP/2.0 ") || first.ends_with(" SIP/2.0");
        is_sip.then_some(Self(text))
    }

    fn value(&self, name: &str) -> Option<&'p str> {
        let Self(text) = self;
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// Where audio is expected.
    fn media(&self) -> Option<([u8; 4], u16)> {
        let Self(text) = self;
        let line = |start| text.lines().find_map(|line| line.strip_prefix(start));
        let address: std::net::Ipv4Addr = line("c=IN IP4 ")?.parse().ok()?;
        let port = line("m=audio ")?.split(' ').next()?;
        Some((address.octets(), port.parse().ok()?))
    }
}

/// tcpdump at the switch.
struct Listener {
    running: Running,
    file: PathBuf,
}

impl Listener {
    fn start(switch: &Switch, folder: &Path) -> Result<Self, String> {
        let file = folder.join("sent.pcap");
        let arguments = [
            "-i",
            switch::INTERFACE,
            "-w",
            file.to_str().unwrap_or_default(),
            "--time-stamp-precision=nano",
            "--immediate-mode",
            "--packet-buffered",
            "-B",
            "65536",
        ];
        let running =
            process::start_in(switch.name(), Path::new("tcpdump"), arguments).map_err(words)?;
        wait_for(PATIENCE, || {
            running.stderr().contains("listening on").then_some(())
        })
        .ok_or_else(|| format!("tcpdump does not listen: {}", running.stderr()))?;
        Ok(Self { running, file })
    }

    /// What it saw, which is at least `packets`.
    fn finish(self, packets: u64) -> Result<Vec<Packet>, String> {
        let read = || capture::read(&self.file).ok().map(|read| read.packets);
        let is_all = |read: &Vec<Packet>| read.len() as u64 >= packets;
        let sent = wait_for(PATIENCE, || read().filter(is_all))
            .ok_or_else(|| format!("tcpdump saw less than lc-hunt, which saw {packets}"))?;
        self.running.signal(nix::sys::signal::Signal::SIGTERM);
        let outcome = self.running.finish(PATIENCE).map_err(words)?;
        if !outcome.stderr.contains("\n0 packets dropped by kernel") {
            return Err(format!("tcpdump did not see all: {}", outcome.stderr));
        }
        Ok(sent)
    }
}

/// What relays media.
fn start_relay(switch: &Switch) -> Result<Running, String> {
    let arguments = [
        "--table=-1".to_owned(),
        format!("--interface={}", switch::address(PROXY)),
        format!("--listen-ng=127.0.0.1:{CONTROL_PORT}"),
        "--foreground".to_owned(),
        "--log-stderr".to_owned(),
        "--log-level=4".to_owned(),
        "--port-min=30000".to_owned(),
        "--port-max=39999".to_owned(),
    ];
    let relay = process::start_in(switch.host(PROXY), Path::new("rtpengine"), arguments);
    let relay = relay.map_err(words)?;
    await_port(&relay, Transport::Udp, CONTROL_PORT)?;
    Ok(relay)
}

fn start_proxy(switch: &Switch, folder: &Path) -> Result<Running, String> {
    let config = folder.join("kamailio.cfg");
    let folder = folder.to_str().unwrap_or_default();
    // In the foreground, with no more than it needs for a few calls.
    let arguments = ["-DD", "-E", "-m", "32", "-M", "4", "-Y", folder, "-f"];
    let mut all: Vec<&Path> = arguments.iter().map(Path::new).collect();
    all.push(&config);
    let proxy = process::start_in(switch.host(PROXY), Path::new("kamailio"), all);
    let proxy = proxy.map_err(words)?;
    await_port(&proxy, Transport::Udp, SIP_PORT)?;
    await_port(&proxy, Transport::Tcp, SIP_PORT)?;
    Ok(proxy)
}

/// Waits until somebody listens on `port` in the network namespace of a process.
fn await_port(of: &Running, transport: Transport, port: u16) -> Result<(), String> {
    let (table, state) = match transport {
        Transport::Udp => ("udp", "07"),
        Transport::Tcp => ("tcp", "0A"),
    };
    let table = format!("/proc/{}/net/{table}", of.pid());
    let end = format!(":{port:04X}");
    let listens = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let is_own = words.next().is_some_and(|own| own.ends_with(&end));
        is_own && words.nth(1) == Some(state)
    };
    wait_for(PATIENCE, || {
        let table = fs::read_to_string(&table).ok()?;
        table.lines().any(listens).then_some(())
    })
    .ok_or_else(|| format!("nobody listens on port {port}: {}", of.stderr()))
}

/// Puts what SIPp and Kamailio read into `folder`.
fn lay_out(folder: &Path) -> Result<(), String> {
    let mut users = "SEQUENTIAL\n".to_owned();
    for user in 1..=USERS {
        let _ = writeln!(users, "user-{user:02};");
    }
    let files: [(&str, &[u8]); 5] = [
        ("caller.xml", include_bytes!("../exchange/caller.xml")),
        ("callee.xml", include_bytes!("../exchange/callee.xml")),
        ("kamailio.cfg", include_bytes!("../exchange/kamailio.cfg")),
        ("users.csv", users.as_bytes()),
        ("voice.pcap", &voice()),
    ];
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).map_err(words)?;
    }
    Ok(())
}

fn open_to_all(folder: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).map_err(words)
}

/// A capture of what an end says: [`AUDIO`] packets of G.711 A-law, and a sender report from the next port.
fn voice() -> Vec<u8> {
    const SSRC: u32 = 0x4c43_4831;
    let mut capture = Vec::new();
    let file: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1];
    capture.extend(file.iter().flat_map(|word| word.to_le_bytes()));
    let mut add = |port: u16, micros: u32, payload: &[u8]| {
        let [from, to] = [1, 2].map(|host| (Ipv4Addr::new(192, 0, 2, host), port));
        let frame = ipv4::ethernet(&ipv4::udp(from, to, payload));
        let len = frame.len() as u32;
        let record = [micros / 1_000_000, micros % 1_000_000, len, len];
        capture.extend(record.iter().flat_map(|word| word.to_le_bytes()));
        capture.extend(frame);
    };
    for number in 0..AUDIO as u32 {
        let micros = 20_000 * number;
        let mut packet = vec![0x80, 8];
        // Numbers that wrap around on the way.
        packet.extend(65_520_u16.wrapping_add(number as u16).to_be_bytes());
        packet.extend((160 * number).to_be_bytes());
        packet.extend(SSRC.to_be_bytes());
        packet.resize(12 + 160, number as u8);
        add(6000, micros, &packet);
        if number == AUDIO as u32 / 2 {
            // Version 2, no report blocks, seven words in all.
            let mut report = vec![0x80, 200, 0, 6];
            for word in [SSRC, 0, 0, 160 * number, number, 160 * number] {
                report.extend(word.to_be_bytes());
            }
            add(6001, micros + 1, &report);
        }
    }
    capture
}
