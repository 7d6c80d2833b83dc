//! An open capture: a socket and its ring, ours or libpcap's, and the filter in force on it.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use packet_socket::{Geometry, Identity, PacketSocket, Place, Ring, Target, link};
use pcap::{Active, Capture, Precision};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use socket2::SockRef;

use super::program::{ACCEPT_ALL, Instruction, REJECT_ALL, for_kernel, instructions};
use super::{ANY, LINUX_SLL, LOOPBACK, Link, LiveOptions, kept, look_up};
use crate::bpf::{Expression, FilterError, Verdict, check_size, compile_offline, message};
use crate::source::file::MAX_PACKET;
use crate::source::{Deliver, LONGEST_BLOCK, Packet, SourceError};

/// An open capture.
pub(super) struct Handle {
    mechanism: Mechanism,
    device: String,
    /// Which device the name stood for; a device deleted and made again has another index. `None` for `any`.
    pub(super) index: Option<usize>,
    /// Index of the loopback interface, if packets over it can appear here.
    loopback: Option<u32>,
    pub(super) link_type: u16,
    /// Index of its row in the table of interfaces.
    pub(super) interface: u16,
    snap_length: u32,
    screen: Option<Screen>,
    /// What the card had dropped when this capture began.
    card_dropped: u64,
}

/// Who made the ring and reads it.
enum Mechanism {
    /// This process, or a predecessor.
    Packet(Ring),
    Pcap {
        capture: Capture<Active>,
        /// Counters at the last reading; libpcap's are 32 bits wide and wrap.
        counted: (u32, u32),
    },
}

/// Filters in user space: packets from before the kernel had the program, or all if the kernel cannot have it.
struct Screen {
    verdict: Verdict,
    /// Packets from this time on (nanoseconds since 1970) need no screening.
    until_ns: u64,
}

/// What the kernel has counted for one capture thread, and what became of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Account {
    /// Packets received by the kernel, the dropped ones included.
    pub(super) received: u64,
    /// Packets dropped by the kernel.
    pub(super) dropped: u64,
    /// Packets dropped by the card.
    pub(super) card_dropped: u64,
    /// Packets taken from the kernel's buffer: the next one's number.
    pub(super) taken: u64,
    /// Those of them that the filter, applied here, did not let through.
    pub(super) rejected: u64,
    /// Packets that went with a socket.
    pub(super) lost: u64,
}

impl Account {
    /// Packets that the kernel has received and that nobody has taken: they are in its buffer.
    pub(super) fn waiting(&self) -> u64 {
        let gone = self.dropped + self.taken + self.lost;
        self.received.saturating_sub(gone)
    }
}

/// Why a device cannot be captured by our own ring.
pub(super) enum Unfit {
    /// It is not made for that; libpcap may be.
    Unsupported(String),
    /// Nobody could.
    Failed(SourceError),
}

impl Handle {
    /// Opens `device` with a ring of our own. It receives from the call of [`Handle::start`] on.
    pub(super) fn open_ring(device: &str, options: &LiveOptions) -> Result<Self, Unfit> {
        let link = link(device).map_err(Unfit::Failed)?;
        let failed = |error: io::Error| Unfit::Failed(device_error(device, &error));
        let unsupported = |step: &'static str| {
            move |error: io::Error| Unfit::Unsupported(format!("{step}: {error}"))
        };
        let target = target(link.as_ref());
        let socket = PacketSocket::new(target).map_err(failed)?;
        let address = socket.address().map_err(failed)?;
        let link_type = match target {
            Target::Any => Some(link::LINUX_SLL),
            Target::Interface(_) => link::link_type(address.hardware_type),
        };
        let Some(link_type) = link_type.filter(|_| !is_special(device)) else {
            let kind = address.hardware_type;
            return Err(Unfit::Unsupported(format!(
                "its link layer (type {kind}) is libpcap's"
            )));
        };
        let identity = Identity {
            name: device.to_owned(),
            link_type,
            promiscuous: options.promiscuous && device != ANY,
        };
        let geometry = kept::geometry(options);
        socket
            .make_ring(&geometry, options.timeout)
            .map_err(unsupported("no ring can be had"))?;
        if let (true, Target::Interface(index)) = (identity.promiscuous, target) {
            socket.set_promiscuous(index).map_err(failed)?;
        }
        let ring =
            Ring::new(socket, &geometry, identity).map_err(unsupported("the ring is of no use"))?;
        Ok(Self::new(
            Mechanism::Packet(ring),
            device,
            link_type,
            link,
            options,
        ))
    }

    /// Opens `device` through libpcap, which receives at once.
    pub(super) fn open_pcap(device: &str, options: &LiveOptions) -> Result<Self, SourceError> {
        let link = link(device)?;
        let open = || {
            Capture::from_device(device)?
                .snaplen(snap_length(options) as i32)
                .promisc(options.promiscuous && device != ANY)
                .buffer_size(options.kernel_buffer.min(i32::MAX as u32) as i32)
                .timeout(options.timeout.as_millis().clamp(1, i32::MAX as u128) as i32)
                .precision(Precision::Nano)
                .open()?
                .setnonblock()
        };
        let name = || device.to_owned();
        let capture = open().map_err(|error| {
            let cause = message(&error);
            let denied = ["ermission", "ermitted", "CAP_NET"];
            if denied.iter().any(|word| cause.contains(word)) {
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
        let number = capture.get_datalink().0;
        let link_type = u16::try_from(number).map_err(|_| SourceError::Device {
            name: name(),
            cause: format!("its link type {number} is not known"),
        })?;
        let mechanism = Mechanism::Pcap {
            capture,
            counted: (0, 0),
        };
        let mut handle = Self::new(mechanism, device, link_type, link, options);
        handle.screen = Some(Screen {
            verdict: Verdict::Nothing,
            until_ns: u64::MAX,
        });
        Ok(handle)
    }

    /// Goes on with a predecessor's ring, under its filter.
    pub(super) fn over(ring: Ring, options: &LiveOptions) -> Self {
        let Identity {
            name, link_type, ..
        } = ring.identity().clone();
        let address = ring.socket().address().ok();
        let link = match address.and_then(|address| address.target) {
            Some(Target::Interface(index)) => Some(Link {
                index: index as usize,
                up: true,
            }),
            _ => None,
        };
        Self::new(Mechanism::Packet(ring), &name, link_type, link, options)
    }

    fn new(
        mechanism: Mechanism,
        device: &str,
        link_type: u16,
        link: Option<Link>,
        options: &LiveOptions,
    ) -> Self {
        let index = link.map(|link| link.index);
        let loopback = look_up(LOOPBACK).map(|link| link.index);
        Self {
            mechanism,
            device: device.to_owned(),
            index,
            loopback: loopback
                .filter(|loopback| index.is_none_or(|index| index == *loopback))
                .and_then(|index| u32::try_from(index).ok()),
            link_type,
            interface: 0,
            snap_length: snap_length(options),
            screen: None,
            card_dropped: card_dropped(device),
        }
    }

    /// Begins to receive.
    pub(super) fn start(&self) -> Result<(), SourceError> {
        let Mechanism::Packet(ring) = &self.mechanism else {
            return Ok(());
        };
        let target = match self.index {
            Some(index) => Target::Interface(index as u32),
            None => Target::Any,
        };
        let started = ring.socket().start(target);
        started.map_err(|error| device_error(&self.device, &error))
    }

    /// The name of its interface.
    pub(super) fn device(&self) -> &str {
        &self.device
    }

    /// The size of a ring that a successor can read on.
    pub(super) fn ring(&self) -> Option<Geometry> {
        match &self.mechanism {
            Mechanism::Packet(ring) => Some(ring.geometry()),
            Mechanism::Pcap { .. } => None,
        }
    }

    /// Numbers packets, and counts, from the account on. False if the ring's packets were numbered by somebody else.
    pub(super) fn resume(&mut self, account: &mut Account) -> bool {
        let Mechanism::Packet(ring) = &mut self.mechanism else {
            return true;
        };
        let place = Place {
            next: account.taken,
            received: account.received,
            dropped: account.dropped,
        };
        let resumed = ring.resume(&place);
        (account.received, account.dropped) = ring.counted();
        if let Err(error) = resumed {
            tracing::warn!(interface = self.device, %error, "the socket of a predecessor cannot be read on");
        }
        resumed.is_ok()
    }

    /// What was delivered is in safety: the kernel may have the room back.
    pub(super) fn release(&mut self) {
        if let Mechanism::Packet(ring) = &mut self.mechanism {
            ring.release();
        }
    }

    /// Waits for packets; true if the kernel reports an error instead.
    pub(super) fn wait(&self) -> bool {
        match &self.mechanism {
            Mechanism::Packet(ring) => ring.socket().wait(LONGEST_BLOCK),
            Mechanism::Pcap { capture, .. } => wait(capture.as_fd(), LONGEST_BLOCK),
        }
    }

    /// Delivers what is in the kernel's buffer, at most `max` packets. The number is that of packets taken from the buffer.
    pub(super) fn dispatch(
        &mut self,
        max: usize,
        account: &mut Account,
        deliver: &mut Deliver<'_>,
    ) -> Result<usize, String> {
        let (link_type, interface) = (self.link_type, self.interface);
        let (screen, rejected) = (&mut self.screen, &mut account.rejected);
        let mut give = |sequence, timestamp_ns, original_length, data: &[u8]| {
            if let Some(check) = screen {
                if timestamp_ns >= check.until_ns {
                    *screen = None;
                } else if !check.verdict.passes(data) {
                    *rejected += 1;
                    return;
                }
            }
            let packet = Packet {
                sequence,
                timestamp_ns,
                original_length,
                link_type,
                interface,
                data,
            };
            // A live packet cannot be held back; the consumer drops and counts.
            let _: ControlFlow<()> = deliver(&packet);
        };
        let next = &mut account.taken;
        match &mut self.mechanism {
            Mechanism::Packet(ring) => ring
                .take(max, self.snap_length as usize, next, |sequence, packet| {
                    give(
                        sequence,
                        packet.timestamp_ns,
                        packet.original_length,
                        packet.data,
                    );
                })
                .map_err(|malformed| malformed.to_string()),
            Mechanism::Pcap { capture, .. } => capture
                .dispatch(Some(max.min(i32::MAX as usize)), |packet| {
                    let time = packet.header.ts;
                    let timestamp_ns = (time.tv_sec as u64)
                        .wrapping_mul(1_000_000_000)
                        .wrapping_add(time.tv_usec as u64);
                    give(*next, timestamp_ns, packet.header.len, packet.data);
                    *next += 1;
                })
                .map_err(|error| message(&error)),
        }
    }

    /// Adds what the kernel counted since the last call.
    pub(super) fn count(&mut self, account: &mut Account) {
        match &mut self.mechanism {
            Mechanism::Packet(ring) => {
                if let Err(error) = ring.count() {
                    tracing::debug!(%error, "the kernel's counters cannot be read");
                }
                (account.received, account.dropped) = ring.counted();
            }
            Mechanism::Pcap { capture, counted } => {
                if let Ok(now) = capture.stats() {
                    let (received, dropped) = *counted;
                    account.received += u64::from(now.received.wrapping_sub(received));
                    account.dropped += u64::from(now.dropped.wrapping_sub(dropped));
                    *counted = (now.received, now.dropped);
                }
            }
        }
        let card_dropped = card_dropped(&self.device);
        account.card_dropped += card_dropped.saturating_sub(self.card_dropped);
        self.card_dropped = card_dropped;
    }

    /// Replaces the kernel's program in one step.
    pub(super) fn replace_filter(&mut self, expression: &Expression) -> Result<(), FilterError> {
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

    /// Lets the kernel accept nothing more.
    pub(super) fn reject_all(&self) {
        if let Err(error) = self.attach(&[REJECT_ALL]) {
            tracing::warn!(interface = self.device, %error, "cannot shut the kernel's filter; the last packets may be uncounted");
        }
    }

    /// Compiles for the kernel; `None` if it cannot run the program.
    fn compile(&self, text: &str) -> Result<Option<Vec<Instruction>>, FilterError> {
        check_size(text, self.link_type)?;
        let refused = |error: pcap::Error| FilterError::new(text, self.link_type, message(&error));
        let program = match &self.mechanism {
            // A live handle knows how this kernel hands out VLAN tags.
            Mechanism::Pcap { capture, .. } => capture.compile(text, true).map_err(refused)?,
            Mechanism::Packet(_) if text.contains("vlan") => match live_compiler(&self.device) {
                Ok(handle) => handle.compile(text, true).map_err(refused)?,
                Err(_) => return Ok(None),
            },
            Mechanism::Packet(_) => compile_offline(text, self.link_type)?,
        };
        let program = instructions(&program);
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
        let program = for_kernel(program, self.loopback, self.snap_length);
        if program.len() > usize::from(u16::MAX) {
            return Err(io::Error::other(format!(
                "the program has {} instructions",
                program.len()
            )));
        }
        SockRef::from(self).attach_filter(&program)
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.mechanism {
            Mechanism::Packet(ring) => ring.socket().as_fd(),
            Mechanism::Pcap { capture, .. } => capture.as_fd(),
        }
    }
}

/// A short-lived capture that compiles for its device, and takes as little as it can.
fn live_compiler(device: &str) -> Result<Capture<Active>, pcap::Error> {
    const SMALL: i32 = 1 << 16;
    Capture::from_device(device)?
        .snaplen(MAX_PACKET as i32)
        .buffer_size(SMALL)
        .open()
}

/// The interface, or `None` for `any`.
fn link(device: &str) -> Result<Option<Link>, SourceError> {
    match look_up(device) {
        _ if device == ANY => Ok(None),
        None => Err(SourceError::NoSuchInterface {
            name: device.to_owned(),
        }),
        link => Ok(link),
    }
}

fn target(link: Option<&Link>) -> Target {
    link.map_or(Target::Any, |link| Target::Interface(link.index as u32))
}

fn snap_length(options: &LiveOptions) -> u32 {
    options.snap_length.clamp(1, MAX_PACKET as u32)
}

/// Ethernet devices whose frames libpcap knows to be something else: ports of a switch with tags of its own, and ISDN.
fn is_special(device: &str) -> bool {
    let tagging = fs::read_to_string(sysfs_of(device).join("dsa/tagging"));
    device.starts_with("isdn") || tagging.is_ok_and(|tagging| tagging.trim() != "none")
}

/// Packets that the card had no room for, as libpcap counts them.
fn card_dropped(device: &str) -> u64 {
    if device == ANY {
        return 0;
    }
    let folder = sysfs_of(device).join("statistics");
    let counter = |name| -> Option<u64> {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        text.trim().parse().ok()
    };
    let counters = ["rx_missed_errors", "rx_fifo_errors"];
    counters.iter().filter_map(counter).sum()
}

fn sysfs_of(device: &str) -> std::path::PathBuf {
    Path::new("/sys/class/net").join(device)
}

fn device_error(device: &str, error: &io::Error) -> SourceError {
    let (name, cause) = (device.to_owned(), error.to_string());
    match Errno::from_io_error(error) {
        Some(Errno::PERM | Errno::ACCESS) => SourceError::Permission { name, cause },
        Some(Errno::NODEV | Errno::NXIO) => SourceError::NoSuchInterface { name },
        _ => SourceError::Device { name, cause },
    }
}

/// The kernel's packet clock.
fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_nanos() as u64
}

/// Waits until a socket can be read; true if the kernel reports an error instead.
fn wait(socket: BorrowedFd<'_>, longest: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: longest.subsec_nanos().into(),
    };
    let mut fds = [PollFd::new(&socket, PollFlags::IN)];
    match rustix::event::poll(&mut fds, Some(&timeout)) {
        Ok(ready) => ready > 0 && !fds[0].revents().contains(PollFlags::IN),
        Err(error) => error != Errno::INTR,
    }
}
