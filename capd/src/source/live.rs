//! Live capture through libpcap (TPACKET_V3), one interface a source.
//!
//! Guarantees: packets in the order of the kernel, with nanosecond timestamps; an expression takes the place of another in one step, so that
//! a packet that both accept is never lost; an interface that goes away is opened again with back-off, and what is known of the gap is
//! reported; after [`Source::stop`] everything that the kernel had accepted is still delivered, so that
//! `received = dropped + delivered` holds exactly.
//!
//! Why the filter is attached here and not by libpcap: libpcap replaces a program by "reject everything", then drains, then the new
//! program, and loses without trace what arrives in between. The kernel's own replacement (`SO_ATTACH_FILTER`) is atomic.
//!
//! `any` is captured as Linux cooked v1 (link type 113).

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::net::if_::InterfaceFlags;
use pcap::{Active, Capture, Precision};
use rustix::event::{PollFd, PollFlags, Timespec};
use socket2::{SockFilter, SockRef};

use super::{
    Deliver, FullRing, Interfaces, LONGEST_BLOCK, Packet, Poll, Source, SourceError, State, Status,
};
use crate::bpf::{Expression, FilterError, Verdict, check_size, message};

/// Name of libpcap's pseudo device that captures on all interfaces.
pub const ANY: &str = "any";
/// The name that libpcap, too, looks for.
const LOOPBACK: &str = "lo";

/// Linux cooked v1: what `any` delivers.
const LINUX_SLL: u16 = 113;
/// Stands in while an interface that is down has told no link type yet.
const ETHERNET: u16 = 1;

const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);
/// How often an interface is looked at: does it exist, is it the same, is it up.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Back-off while the kernel reports an error on the socket that libpcap does not take for one.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// How to open an interface.
#[derive(Clone, Copy, Debug)]
pub struct LiveOptions {
    /// Most bytes captured of a packet.
    pub snap_length: u32,
    /// Whether to receive frames for other stations; not on `any`.
    pub promiscuous: bool,
    /// The kernel's buffer, in bytes.
    pub kernel_buffer: u32,
    /// Longest time a packet waits in the kernel's buffer for company.
    pub timeout: Duration,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            snap_length: 65_535,
            promiscuous: false,
            kernel_buffer: 16 << 20,
            timeout: Duration::from_millis(200),
        }
    }
}

/// One interface, captured live.
pub struct Live {
    device: String,
    options: LiveOptions,
    interfaces: Interfaces,
    expression: Expression,
    handle: Option<Handle>,
    status: Status,
    /// Link type when last open.
    link_type: u16,
    lost_since: Option<Instant>,
    next_try: Instant,
    back_off: Duration,
    next_check: Instant,
    /// The last call reported [`Poll::Dry`].
    may_block: bool,
    /// When to give up waiting for the kernel's last packets.
    stop_by: Option<Instant>,
    /// Number of the next packet.
    sequence: u64,
}

/// An open capture.
struct Handle {
    capture: Capture<Active>,
    /// Which device the name stood for; a device deleted and made again has another index. `None` for `any`.
    index: Option<usize>,
    /// Index of the loopback interface, if packets over it can appear here.
    loopback: Option<u32>,
    link_type: u16,
    interface: u16,
    screen: Option<Screen>,
    /// Counters of this handle at the last reading; libpcap's are 32 bits wide and wrap.
    counted: (u32, u32, u32),
    /// Packets of this handle counted as received, less dropped, less those that the screen kept back, less delivered.
    on_the_way: i64,
    /// Packets kept back by the screen.
    screened: u64,
}

/// Filters in user space: packets from before the kernel had the program, or all if the kernel cannot have it.
struct Screen {
    verdict: Verdict,
    /// Packets from this time on (nanoseconds since 1970) need no screening.
    until_ns: u64,
}

impl Live {
    /// Opens `device`; no packet that `expression` does not accept is ever delivered. A device that exists but is down is waited for, see
    /// [`State::Retrying`].
    ///
    /// # Errors
    /// The device does not exist, the process may not capture on it, libpcap refuses it, or the expression does not compile.
    pub fn open(
        device: &str,
        options: LiveOptions,
        expression: &Expression,
        interfaces: Interfaces,
    ) -> Result<Self, SourceError> {
        if options.promiscuous && device == ANY {
            tracing::warn!(
                interface = device,
                "promiscuous mode does not exist on `any` and is left off; name the interfaces to use it"
            );
        }
        let now = Instant::now();
        let mut live = Self {
            device: device.to_owned(),
            options,
            interfaces,
            expression: expression.clone(),
            handle: None,
            status: Status::default(),
            link_type: if device == ANY { LINUX_SLL } else { ETHERNET },
            lost_since: None,
            next_try: now,
            back_off: FIRST_BACK_OFF,
            next_check: now,
            may_block: false,
            stop_by: None,
            sequence: 0,
        };
        expression.compile(live.link_type)?;
        match live.try_open() {
            Ok(()) => {}
            Err(SourceError::Device { cause, .. })
                if device != ANY && look_up(device).is_some_and(|link| !link.up) =>
            {
                live.lose(cause)
            }
            Err(error) => return Err(error),
        }
        Ok(live)
    }

    /// The link type of its packets, as a DLT number.
    pub fn link_type(&self) -> u16 {
        self.link_type
    }

    fn try_open(&mut self) -> Result<(), SourceError> {
        let name = || self.device.clone();
        let index = match (self.device.as_str(), look_up(&self.device)) {
            (ANY, _) => None,
            (_, Some(link)) => Some(link.index),
            (_, None) => return Err(SourceError::NoSuchInterface { name: name() }),
        };
        let open = || {
            Capture::from_device(self.device.as_str())?
                .snaplen(
                    self.options
                        .snap_length
                        .clamp(1, super::file::MAX_PACKET as u32) as i32,
                )
                .promisc(self.options.promiscuous && self.device != ANY)
                .buffer_size(self.options.kernel_buffer.min(i32::MAX as u32) as i32)
                .timeout(self.options.timeout.as_millis().clamp(1, i32::MAX as u128) as i32)
                .precision(Precision::Nano)
                .open()?
                .setnonblock()
        };
        let capture = open().map_err(|error| {
            let cause = message(&error);
            if cause.contains("ermission")
                || cause.contains("ermitted")
                || cause.contains("CAP_NET")
            {
                SourceError::Permission {
                    name: name(),
                    cause,
                }
            } else {
                SourceError::Device {
                    name: name(),
                    cause,
                }
            }
        })?;
        let link_type =
            u16::try_from(capture.get_datalink().0).map_err(|_| SourceError::Device {
                name: name(),
                cause: format!("its link type {} is not known", capture.get_datalink().0),
            })?;
        let interface = self.interfaces.register(&self.device, link_type);
        self.link_type = link_type;
        let loopback = look_up(LOOPBACK).map(|link| link.index);
        let mut handle = Handle {
            capture,
            index,
            loopback: loopback
                .filter(|loopback| index.is_none_or(|index| index == *loopback))
                .and_then(|index| u32::try_from(index).ok()),
            link_type,
            interface,
            screen: Some(Screen {
                verdict: Verdict::Nothing,
                until_ns: u64::MAX,
            }),
            counted: (0, 0, 0),
            on_the_way: 0,
            screened: 0,
        };
        handle.replace_filter(&self.expression)?;
        self.handle = Some(handle);
        Ok(())
    }

    /// Tries to get a lost interface back.
    fn reopen(&mut self) {
        match self.try_open() {
            Ok(()) => {
                let gap = self
                    .lost_since
                    .take()
                    .map(|since| since.elapsed())
                    .unwrap_or_default();
                self.status.state = State::Up;
                self.status.reopened += 1;
                self.status.lost_time += gap;
                self.back_off = FIRST_BACK_OFF;
                tracing::info!(
                    interface = self.device,
                    gap_ms = gap.as_millis() as u64,
                    "interface is back, capture goes on"
                );
            }
            Err(error) => {
                self.status.state = State::Retrying {
                    reason: error.to_string(),
                };
                self.next_try = Instant::now() + self.back_off;
                self.back_off = (self.back_off * 2).min(LONGEST_BACK_OFF);
            }
        }
    }

    /// Gives the interface up for now.
    fn lose(&mut self, reason: String) {
        if let Some(mut handle) = self.handle.take() {
            handle.count(&mut self.status);
        }
        tracing::warn!(
            interface = self.device,
            reason,
            "interface lost; opening it is tried again until it is back"
        );
        self.status.state = State::Retrying { reason };
        self.lost_since.get_or_insert_with(Instant::now);
        self.back_off = FIRST_BACK_OFF;
        self.next_try = Instant::now() + self.back_off;
    }

    /// Looks whether the interface is still the one that was opened, and up.
    fn check(&mut self) {
        self.next_check = Instant::now() + CHECK_INTERVAL;
        let Some(index) = self.handle.as_ref().and_then(|handle| handle.index) else {
            return;
        };
        match look_up(&self.device) {
            None => self.lose("the interface disappeared".into()),
            Some(link) if link.index != index => {
                self.lose("the interface was replaced by another of the same name".into())
            }
            Some(link) => {
                let state = if link.up { State::Up } else { State::Down };
                if self.status.state != state {
                    tracing::info!(interface = self.device, up = link.up, "link state changed");
                    self.status.state = state;
                }
            }
        }
    }
}

impl Source for Live {
    fn name(&self) -> &str {
        &self.device
    }

    fn full_ring(&self) -> FullRing {
        FullRing::Drop
    }

    fn resume(&mut self, next: u64) {
        self.sequence = next;
    }

    fn poll(&mut self, max: usize, deliver: &mut Deliver<'_>) -> Result<Poll, SourceError> {
        let may_block = std::mem::take(&mut self.may_block);
        let Some(handle) = &mut self.handle else {
            if self.stop_by.is_some() {
                return Ok(Poll::Finished);
            }
            let wait = self.next_try.saturating_duration_since(Instant::now());
            if may_block && !wait.is_zero() {
                thread::sleep(wait.min(LONGEST_BLOCK));
            }
            if wait <= LONGEST_BLOCK && Instant::now() >= self.next_try {
                self.reopen();
            }
            self.may_block = self.handle.is_none();
            return Ok(Poll::Dry);
        };
        let trouble = may_block && handle.wait();
        let mut error = None;
        let delivered = handle
            .dispatch(max, &mut self.sequence, deliver)
            .unwrap_or_else(|cause| {
                error = Some(cause);
                0
            });
        if delivered == 0
            && self.stop_by.is_some_and(|stop_by| {
                handle.is_drained(&mut self.status) || Instant::now() >= stop_by
            })
        {
            return Ok(Poll::Finished);
        }
        if trouble || error.is_some() || Instant::now() >= self.next_check {
            self.check();
        }
        if self.handle.is_some() {
            match error {
                // An interface that is only down keeps its socket, which works again when it is up.
                Some(cause) if self.status.state != State::Down => self.lose(cause),
                None if !trouble => {}
                _ => thread::sleep(ERROR_PAUSE),
            }
        }
        self.may_block = delivered == 0;
        Ok(if delivered == 0 {
            Poll::Dry
        } else {
            Poll::More
        })
    }

    fn set_filter(&mut self, expression: &Expression) -> Result<(), FilterError> {
        if *expression == self.expression {
            return Ok(());
        }
        match &mut self.handle {
            Some(handle) if self.stop_by.is_none() => handle.replace_filter(expression)?,
            _ => drop(expression.compile(self.link_type)?),
        }
        self.expression = expression.clone();
        Ok(())
    }

    fn status(&mut self) -> Status {
        if let Some(handle) = &mut self.handle {
            handle.count(&mut self.status);
        }
        let mut status = self.status.clone();
        status.lost_time += self
            .lost_since
            .map(|since| since.elapsed())
            .unwrap_or_default();
        status
    }

    fn stop(&mut self) {
        if self.stop_by.is_some() {
            return;
        }
        // What was accepted reaches user space when its block is retired, one time-out from now at the latest.
        self.stop_by = Some(Instant::now() + self.options.timeout + LONGEST_BLOCK);
        if let Some(Err(error)) = self
            .handle
            .as_ref()
            .map(|handle| handle.attach(&[REJECT_ALL]))
        {
            tracing::warn!(interface = self.device, %error, "cannot shut the kernel's filter; the last packets may be uncounted");
        }
    }
}

/// BPF_RET|BPF_K: the number of bytes to accept.
const REJECT_ALL: Instruction = Instruction {
    code: 0x06,
    jt: 0,
    jf: 0,
    k: 0,
};
const ACCEPT_ALL: Instruction = Instruction {
    k: super::file::MAX_PACKET as u32,
    ..REJECT_ALL
};

/// What stands before a program so that a packet over loopback interface `index` counts once: the kernel shows it as sent
/// and as received, and libpcap throws the first away after it was counted.
fn without_sent_on(index: u32) -> [Instruction; 5] {
    let load = |k| Instruction {
        code: 0x20,
        jt: 0,
        jf: 0,
        k,
    };
    let unless = |k, jf| Instruction {
        code: 0x15,
        jt: 0,
        jf,
        k,
    };
    [
        load(PACKET_TYPE),
        unless(PACKET_OUTGOING, 3),
        load(INTERFACE_INDEX),
        unless(index, 1),
        REJECT_ALL,
    ]
}

/// Fields that the kernel gives a program beside the packet (linux/filter.h).
const ANCILLARY: u32 = 0xffff_f000;
const PROTOCOL: u32 = ANCILLARY;
const PACKET_TYPE: u32 = ANCILLARY + 4;
const INTERFACE_INDEX: u32 = ANCILLARY + 8;
/// Type of a packet that this host sends (linux/if_packet.h).
const PACKET_OUTGOING: u32 = 4;

impl Handle {
    /// Waits for packets; true if the kernel reports an error instead.
    fn wait(&self) -> bool {
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: LONGEST_BLOCK.subsec_nanos().into(),
        };
        let fd = self.capture.as_fd();
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(ready) => ready > 0 && !fds[0].revents().contains(PollFlags::IN),
            Err(error) => error != rustix::io::Errno::INTR,
        }
    }

    /// Delivers what is in the kernel's buffer, at most `max` packets. The number is that of packets taken from the buffer.
    fn dispatch(
        &mut self,
        max: usize,
        sequence: &mut u64,
        deliver: &mut Deliver<'_>,
    ) -> Result<usize, String> {
        let (link_type, interface) = (self.link_type, self.interface);
        let Self {
            capture,
            screen,
            screened,
            on_the_way,
            ..
        } = self;
        let taken = capture.dispatch(Some(max.min(i32::MAX as usize)), |packet| {
            let time = packet.header.ts;
            let timestamp_ns = (time.tv_sec as u64)
                .wrapping_mul(1_000_000_000)
                .wrapping_add(time.tv_usec as u64);
            if let Some(check) = screen {
                if timestamp_ns >= check.until_ns {
                    *screen = None;
                } else if !check.verdict.passes(packet.data) {
                    *screened += 1;
                    return;
                }
            }
            let packet = Packet {
                sequence: *sequence,
                timestamp_ns,
                original_length: packet.header.len,
                link_type,
                interface,
                data: packet.data,
            };
            *sequence += 1;
            // A live packet cannot be held back; the consumer drops and counts.
            let _: ControlFlow<()> = deliver(&packet);
        });
        match taken {
            Ok(taken) => {
                *on_the_way -= taken as i64;
                Ok(taken)
            }
            Err(error) => Err(message(&error)),
        }
    }

    /// Adds what the kernel counted since the last call.
    fn count(&mut self, status: &mut Status) {
        if let Ok(now) = self.capture.stats() {
            let (received, dropped, interface_dropped) = self.counted;
            let received = now.received.wrapping_sub(received);
            let dropped = now.dropped.wrapping_sub(dropped);
            status.received += u64::from(received);
            status.dropped += u64::from(dropped);
            status.interface_dropped += u64::from(now.if_dropped.wrapping_sub(interface_dropped));
            self.on_the_way += i64::from(received) - i64::from(dropped);
            self.counted = (now.received, now.dropped, now.if_dropped);
        }
        // Packets that our own screen kept back did not pass the filter, so they do not count as received.
        let screened = std::mem::take(&mut self.screened);
        status.received = status.received.saturating_sub(screened);
    }

    fn is_drained(&mut self, status: &mut Status) -> bool {
        self.count(status);
        self.on_the_way <= 0
    }

    /// Replaces the kernel's program in one step.
    fn replace_filter(&mut self, expression: &Expression) -> Result<(), FilterError> {
        let verdict = expression.compile(self.link_type)?;
        let program = match (&verdict, expression.text(self.link_type)) {
            (Verdict::Nothing, _) | (_, None) => Some(vec![REJECT_ALL]),
            (Verdict::Everything, _) => Some(vec![ACCEPT_ALL]),
            (Verdict::Program(_), Some(text)) => self.compile(&text)?,
        };
        let attached = match program {
            Some(program) => self.attach(&program),
            None => Err(io::Error::other(
                "it uses header fields that the kernel does not have",
            )),
        };
        match attached {
            // What the kernel accepted while it had no program of ours is screened until it is through.
            Ok(()) => {
                self.screen = self.screen.take().map(|screen| Screen {
                    verdict,
                    until_ns: screen.until_ns.min(now_ns()),
                });
            }
            Err(cause) => {
                tracing::warn!(%cause, "the kernel cannot run the capture filter; it is applied in user space, which costs time");
                let refuse = |error: io::Error| FilterError::new("", self.link_type, error);
                self.attach(&[ACCEPT_ALL]).map_err(refuse)?;
                self.screen = Some(Screen {
                    verdict,
                    until_ns: u64::MAX,
                });
            }
        }
        Ok(())
    }

    /// Compiles on the live handle, which knows how this kernel hands out VLAN tags; `None` if the kernel cannot run the program.
    fn compile(&self, text: &str) -> Result<Option<Vec<Instruction>>, FilterError> {
        check_size(text, self.link_type)?;
        let program = self
            .capture
            .compile(text, true)
            .map_err(|error| FilterError::new(text, self.link_type, message(&error)))?;
        let program: Option<Vec<_>> = program
            .get_instructions()
            .iter()
            .map(|instruction| Instruction::parse(&instruction.to_string()))
            .collect();
        Ok(match self.link_type {
            LINUX_SLL => program.and_then(|program| {
                program
                    .into_iter()
                    .map(Instruction::without_cooked_header)
                    .collect()
            }),
            _ => program,
        })
    }

    fn attach(&self, program: &[Instruction]) -> io::Result<()> {
        let fd = self.capture.as_fd();
        let program: Vec<_> = self
            .loopback
            .map(without_sent_on)
            .iter()
            .flatten()
            .chain(program)
            .map(|i| SockFilter::new(i.code, i.jt, i.jf, i.k))
            .collect();
        if program.len() > usize::from(u16::MAX) {
            return Err(io::Error::other(format!(
                "the program has {} instructions",
                program.len()
            )));
        }
        SockRef::from(&fd).attach_filter(&program)
    }
}

/// The kernel's packet clock.
fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_nanos() as u64
}

/// One instruction of classic BPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

impl Instruction {
    /// Reads the four numbers as crate `pcap` prints them: it shows an instruction in no other way.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_ascii_whitespace().map(str::parse::<u32>);
        let mut next = || numbers.next().and_then(Result::ok);
        Some(Self {
            code: next()?.try_into().ok()?,
            jt: next()?.try_into().ok()?,
            jf: next()?.try_into().ok()?,
            k: next()?,
        })
    }

    /// The same for a cooked socket, whose packets begin behind the cooked header that libpcap puts in front afterwards. Two fields of that
    /// header can be had from the kernel by other means (linux/filter.h); `None` for the others.
    fn without_cooked_header(self) -> Option<Self> {
        const HEADER: u32 = 16;
        let (class, mode) = (self.code & 0x07, self.code & 0xe0);
        let loads_packet = matches!((class, mode), (0 | 1, 0x20 | 0x40 | 0xa0));
        let k = match self.k {
            k if !loads_packet || k >= ANCILLARY => k,
            k if k >= HEADER => k - HEADER,
            14 => PROTOCOL,
            0 => PACKET_TYPE,
            _ => return None,
        };
        Some(Self { k, ..self })
    }
}

/// What the system knows of an interface.
struct Link {
    index: usize,
    up: bool,
}

fn look_up(device: &str) -> Option<Link> {
    nix::ifaddrs::getifaddrs()
        .ok()?
        .filter(|entry| entry.interface_name == device)
        .find_map(|entry| {
            let index = entry.address?.as_link_addr()?.ifindex();
            Some(Link {
                index,
                up: entry
                    .flags
                    .contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING),
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::compile_offline;

    #[test]
    fn instructions_parse() {
        let program = compile_offline("tcp port 80", 1).unwrap();
        assert!(
            program
                .get_instructions()
                .iter()
                .all(|i| Instruction::parse(&i.to_string()).is_some())
        );
        assert_eq!(
            Instruction::parse("40 1 2 4294967295"),
            Some(Instruction {
                code: 40,
                jt: 1,
                jf: 2,
                k: u32::MAX
            })
        );
        assert_eq!(Instruction::parse("40 256 2 1"), None);
        assert_eq!(Instruction::parse("40 1"), None);
    }

    #[test]
    fn cooked_programs_move_to_the_network_header() {
        let load = |code, k| Instruction {
            code,
            jt: 0,
            jf: 0,
            k,
        };
        assert_eq!(
            load(0x28, 14).without_cooked_header(),
            Some(load(0x28, 0xffff_f000))
        );
        assert_eq!(
            load(0x28, 0).without_cooked_header(),
            Some(load(0x28, 0xffff_f004))
        );
        assert_eq!(load(0x30, 25).without_cooked_header(), Some(load(0x30, 9)));
        assert_eq!(load(0xb1, 16).without_cooked_header(), Some(load(0xb1, 0)));
        assert_eq!(load(0x15, 6).without_cooked_header(), Some(load(0x15, 6)));
        assert_eq!(load(0x28, 6).without_cooked_header(), None);
    }
}
