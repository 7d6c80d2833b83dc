//! Live capture, one interface a source: through an `AF_PACKET` ring of our own ([`packet_socket`]), or through libpcap.
//!
//! Guarantees: packets in the order of the kernel, with nanosecond timestamps; an expression takes the place of another in one step, so that
//! a packet that both accept is never lost; an interface that goes away is opened again with back-off, and what is known of the gap is
//! reported; after [`Source::stop`] everything that the kernel had accepted is still delivered, so that
//! `received = dropped + rejected + lost + delivered` holds exactly.
//!
//! **When capd dies**, its sockets live on in the descriptor store. A successor reads a ring of our own on behind the last packet whose
//! commit was published: nothing is lost but what the kernel dropped because the ring was full, and nothing comes twice. The ring of libpcap
//! cannot be read by another process; the successor reads the socket's counters, so that what it held is counted as lost. The kernel sets
//! its counters to zero when they are read: what libpcap read for a capd that died before it published that (microseconds later) is not
//! counted.
//!
//! Which of the two: our own, unless the link layer is one that only libpcap knows, or the settings ask for libpcap.
//!
//! Why the filter is attached here and not by libpcap: libpcap replaces a program by "reject everything", then drains, then the new
//! program, and loses without trace what arrives in between. The kernel's own replacement (`SO_ATTACH_FILTER`) is atomic.
//!
//! `any` is captured as Linux cooked v1 (link type 113).

mod handle;
mod kept;
mod program;

use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use lc_daemon::config::CaptureBackend;
use lc_daemon::fd_store;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use packet_socket::PacketSocket;

use self::handle::{Account, Handle, Unfit};
use self::kept::{KeptRing, KeptSocket};
use super::{
    Deliver, FullRing, Interfaces, LONGEST_BLOCK, Poll, Predecessor, Source, SourceError, State,
    Status,
};
use crate::bpf::{Expression, FilterError};

pub use self::kept::Left;

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
    /// Who reads the kernel's buffer.
    pub backend: CaptureBackend,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            snap_length: 65_535,
            promiscuous: false,
            kernel_buffer: 16 << 20,
            timeout: Duration::from_millis(200),
            backend: CaptureBackend::Auto,
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
    /// The handle's name in the descriptor store.
    stored_as: Option<String>,
    /// The kernel still filters by a predecessor's expression.
    filter_of_predecessor: bool,
    /// The interface of the handle is lost; until when its last packets are waited for.
    drain_by: Option<Instant>,
    state: State,
    /// Why it is captured otherwise than it might be.
    note: String,
    reopened: u64,
    lost_time: Duration,
    account: Account,
    /// The account of predecessors.
    before: Account,
    kept_ring: Option<KeptRing>,
    kept_sockets: Vec<KeptSocket>,
    settled: Settled,
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
    begun: bool,
    finished: bool,
}

/// Stored sockets whose last counters are in the account: they leave the store when that is published.
#[derive(Default)]
struct Settled {
    names: Vec<String>,
    published: bool,
}

impl Live {
    /// Opens `device`; no packet that `expression` does not accept is ever delivered. A device that exists but is down is waited for, see
    /// [`State::Retrying`].
    ///
    /// # Errors
    /// The device does not exist, the process may not capture on it, it can't be captured in the way asked for, or the expression does not
    /// compile.
    pub fn open(
        device: &str,
        options: LiveOptions,
        expression: &Expression,
        interfaces: Interfaces,
    ) -> Result<Self, SourceError> {
        Self::open_after(device, options, expression, interfaces, Left::default())
    }

    /// The same, after predecessors that left sockets. They are gone on with if [`Source::resume`] is called, and given up if not.
    ///
    /// # Errors
    /// As [`Live::open`].
    pub fn open_after(
        device: &str,
        options: LiveOptions,
        expression: &Expression,
        interfaces: Interfaces,
        left: Left,
    ) -> Result<Self, SourceError> {
        if options.promiscuous && device == ANY {
            tracing::warn!(
                interface = device,
                "promiscuous mode does not exist on `any` and is left off; name the interfaces to use it"
            );
        }
        let now = Instant::now();
        let (kept_ring, kept_sockets) = left.split();
        let mut live = Self {
            device: device.to_owned(),
            options,
            interfaces,
            expression: expression.clone(),
            handle: None,
            stored_as: None,
            filter_of_predecessor: false,
            drain_by: None,
            state: State::Up,
            note: String::new(),
            reopened: 0,
            lost_time: Duration::ZERO,
            account: Account::default(),
            before: Account::default(),
            kept_ring,
            kept_sockets,
            settled: Settled::default(),
            link_type: if device == ANY { LINUX_SLL } else { ETHERNET },
            lost_since: None,
            next_try: now,
            back_off: FIRST_BACK_OFF,
            next_check: now,
            may_block: false,
            stop_by: None,
            begun: false,
            finished: false,
        };
        expression.compile(live.link_type)?;
        if let Some(kept) = &live.kept_ring {
            let identity = kept.ring.identity();
            live.link_type = identity.link_type;
            // The table is published before the source is resumed.
            live.interfaces.register(&identity.name, identity.link_type);
            return Ok(live);
        }
        match live.try_open() {
            // From here on the old sockets would only count what the new one delivers.
            Ok(()) => live.kept_sockets.iter().for_each(KeptSocket::shut),
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

    /// The socket that it captures by, and its name in the descriptor store.
    pub fn socket(&self) -> Option<(&str, BorrowedFd<'_>)> {
        Some((self.stored_as.as_deref()?, self.handle.as_ref()?.as_fd()))
    }

    fn try_open(&mut self) -> Result<(), SourceError> {
        let mut handle = self.open_handle()?;
        handle.interface = self.interfaces.register(&self.device, handle.link_type);
        self.link_type = handle.link_type;
        handle.replace_filter(&self.expression)?;
        // A ring that nobody has read fits any account.
        handle.resume(&mut self.account);
        // In the store before its first packet.
        let queue = self.interfaces.queue();
        self.stored_as = Some(kept::store(handle.ring(), queue, &handle));
        handle.start()?;
        self.handle = Some(handle);
        self.state = State::Up;
        self.check();
        Ok(())
    }

    /// Opens the device in the way that the settings ask for.
    fn open_handle(&mut self) -> Result<Handle, SourceError> {
        let through_libpcap = |live: &Self| Handle::open_pcap(&live.device, &live.options);
        if self.options.backend == CaptureBackend::Pcap {
            return through_libpcap(self);
        }
        match Handle::open_ring(&self.device, &self.options) {
            Ok(handle) => {
                self.note.clear();
                Ok(handle)
            }
            Err(Unfit::Unsupported(cause)) if self.options.backend == CaptureBackend::Auto => {
                tracing::warn!(
                    interface = self.device,
                    cause,
                    "captured through libpcap: what its socket holds is lost if lc-capd dies"
                );
                self.note = format!("captured through libpcap: {cause}");
                through_libpcap(self)
            }
            Err(Unfit::Unsupported(cause)) => Err(SourceError::Device {
                name: self.device.clone(),
                cause: format!(
                    "{cause}; --capture-backend auto or pcap captures it through libpcap"
                ),
            }),
            Err(Unfit::Failed(error)) => Err(error),
        }
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
                self.reopened += 1;
                self.lost_time += gap;
                self.back_off = FIRST_BACK_OFF;
                tracing::info!(
                    interface = self.device,
                    gap_ms = gap.as_millis() as u64,
                    "interface is back, capture goes on"
                );
            }
            Err(error) => {
                self.settled.names.extend(self.stored_as.take());
                self.state = State::Retrying {
                    reason: error.to_string(),
                };
                self.next_try = Instant::now() + self.back_off;
                self.back_off = (self.back_off * 2).min(LONGEST_BACK_OFF);
            }
        }
    }

    /// Gives the interface up for now. What its socket has taken in is still delivered.
    fn lose(&mut self, reason: String) {
        tracing::warn!(
            interface = self.device,
            reason,
            "interface lost; opening it is tried again until it is back"
        );
        if let Some(handle) = &self.handle {
            handle.reject_all();
            self.drain_by = Some(self.drained_by());
        }
        self.state = State::Retrying { reason };
        self.lost_since.get_or_insert_with(Instant::now);
        self.back_off = FIRST_BACK_OFF;
        self.next_try = Instant::now() + self.back_off;
    }

    /// When what was accepted has reached user space: its block is retired one time-out from now at the latest.
    fn drained_by(&self) -> Instant {
        Instant::now() + self.options.timeout + LONGEST_BLOCK
    }

    /// Counts a last time for the open socket; what nobody will take any more is lost.
    fn settle(&mut self) {
        self.drain_by = None;
        if let Some(mut handle) = self.handle.take() {
            handle.count(&mut self.account);
        }
        self.settled.names.extend(self.stored_as.take());
        self.lose_waiting();
    }

    /// Counts a last time for a predecessor's socket that can't be read.
    fn settle_socket(&mut self, name: String, socket: &PacketSocket) {
        let nothing = [socket2::SockFilter::new(0x06, 0, 0, 0)];
        let counted = socket
            .attach(&nothing)
            .and_then(|()| socket.take_counters());
        match counted {
            Ok((received, dropped)) => {
                self.account.received += u64::from(received);
                self.account.dropped += u64::from(dropped);
            }
            Err(error) => tracing::warn!(
                interface = self.device,
                %error,
                "what the socket of a predecessor held is lost and can't be counted"
            ),
        }
        self.settled.names.push(name);
    }

    fn lose_waiting(&mut self) {
        let lost = self.account.waiting();
        if lost > 0 {
            self.account.lost += lost;
            tracing::warn!(
                interface = self.device,
                packets = lost,
                "packets went with the socket that held them"
            );
        }
    }

    /// Goes on with the socket of a predecessor; true if nothing was missed.
    fn take_over(&mut self, kept: KeptRing) -> bool {
        let unfit = self.unfit(&kept);
        let KeptRing { name, ring } = kept;
        let mut handle = Handle::over(ring, &self.options);
        let resumed = handle.resume(&mut self.account);
        if !resumed {
            handle.reject_all();
        }
        handle.count(&mut self.account);
        if !resumed {
            self.settled.names.push(name);
            return false;
        }
        handle.interface = self.interfaces.register(handle.device(), handle.link_type);
        tracing::info!(
            interface = self.device,
            packets = self.account.waiting(),
            "capture goes on in the socket of a predecessor"
        );
        // No change, unless the predecessor died before it did so itself.
        let started = match unfit {
            None => handle.start().map_err(|error| error.to_string()),
            Some(reason) => Err(reason),
        };
        self.handle = Some(handle);
        self.stored_as = Some(name);
        self.filter_of_predecessor = true;
        match started {
            Ok(()) => true,
            Err(reason) => {
                self.lose(reason);
                false
            }
        }
    }

    /// Why a predecessor's ring is not the one that is wanted, if so: it is read to its end then, and another takes its place.
    fn unfit(&self, kept: &KeptRing) -> Option<String> {
        use packet_socket::{Address, Target};
        let identity = kept.ring.identity();
        let promiscuous = self.options.promiscuous && self.device != ANY;
        if identity.name != self.device
            || kept.ring.geometry() != kept::geometry(&self.options)
            || identity.promiscuous != promiscuous
            || self.options.backend == CaptureBackend::Pcap
        {
            return Some("the socket of a predecessor is for other settings".into());
        }
        let bound = kept.ring.socket().address().ok();
        let bound = bound.and_then(|Address { target, .. }| target);
        let wanted = match (self.device.as_str(), look_up(&self.device)) {
            (ANY, _) => Some(Target::Any),
            (_, link) => link.map(|link| Target::Interface(link.index as u32)),
        };
        (bound.is_none() || bound != wanted).then(|| "the interface disappeared".into())
    }

    /// Sorts out what predecessors left; true if nothing was missed since. Without knowing how far they had come, it is given up.
    fn begin(&mut self, from: Option<&Predecessor>) -> bool {
        self.begun = true;
        if let Some(from) = from {
            self.account = Account {
                received: from.received,
                dropped: from.dropped,
                taken: from.next,
                lost: from.lost,
                ..Account::default()
            };
            self.before = self.account;
        }
        for kept in std::mem::take(&mut self.kept_sockets) {
            kept.shut();
            self.settle_socket(kept.name, &kept.socket);
        }
        let seamless = match (self.kept_ring.take(), from) {
            (Some(kept), Some(_)) => self.take_over(kept),
            (Some(KeptRing { name, ring }), None) => {
                self.settle_socket(name, &ring.into_socket());
                false
            }
            (None, _) => false,
        };
        if self.filter_of_predecessor {
            return seamless;
        }
        // What was captured behind the last reading of a counter that nobody can read any more.
        let account = &mut self.account;
        account.received = account
            .received
            .max(account.dropped + account.taken + account.lost);
        self.lose_waiting();
        match &mut self.handle {
            Some(handle) => drop(handle.resume(&mut self.account)),
            None => {
                self.lost_since = Some(Instant::now());
                self.state = State::Retrying {
                    reason: "the socket of a predecessor can't be read on".into(),
                };
            }
        }
        seamless
    }

    fn is_drained(&mut self) -> bool {
        if let Some(handle) = &mut self.handle {
            handle.count(&mut self.account);
        }
        self.account.waiting() == 0
    }

    /// Takes those sockets out of the store whose last counters are published.
    fn forget_settled(&mut self) {
        if std::mem::take(&mut self.settled.published) {
            self.settled
                .names
                .drain(..)
                .for_each(|name| fd_store::remove(&name));
        }
    }

    /// Looks whether the interface is still the one that was opened, and up.
    fn check(&mut self) {
        self.next_check = Instant::now() + CHECK_INTERVAL;
        if self.drain_by.is_some() {
            return;
        }
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
                if self.state != state {
                    tracing::info!(interface = self.device, up = link.up, "link state changed");
                    self.state = state;
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

    fn resume(&mut self, from: &Predecessor) -> bool {
        self.begin(Some(from))
    }

    fn position(&self) -> u64 {
        self.account.taken
    }

    fn poll(&mut self, max: usize, deliver: &mut Deliver<'_>) -> Result<Poll, SourceError> {
        let may_block = std::mem::take(&mut self.may_block);
        if !self.begun {
            self.begin(None);
        }
        self.forget_settled();
        let Some(handle) = &mut self.handle else {
            if self.stop_by.is_some() {
                self.finished = true;
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
        // What earlier calls delivered is published by now.
        handle.release();
        let trouble = may_block && handle.wait();
        let mut error = None;
        let delivered = handle
            .dispatch(max, &mut self.account, deliver)
            .unwrap_or_else(|cause| {
                error = Some(cause);
                0
            });
        if delivered == 0
            && let Some(by) = self.stop_by.or(self.drain_by)
            && (self.is_drained() || Instant::now() >= by)
        {
            self.settle();
            if self.stop_by.is_some() {
                self.finished = true;
                return Ok(Poll::Finished);
            }
        }
        if trouble || error.is_some() || Instant::now() >= self.next_check {
            self.check();
        }
        if self.handle.is_some() {
            match error {
                // An interface that is only down keeps its socket, which works again when it is up.
                Some(cause) if self.state != State::Down && self.drain_by.is_none() => {
                    self.lose(cause)
                }
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
        if *expression == self.expression && !self.filter_of_predecessor {
            return Ok(());
        }
        match &mut self.handle {
            Some(handle) if self.stop_by.is_none() && self.drain_by.is_none() => {
                handle.replace_filter(expression)?;
                self.filter_of_predecessor = false;
            }
            _ => drop(expression.compile(self.link_type)?),
        }
        self.expression = expression.clone();
        Ok(())
    }

    fn status(&mut self) -> Status {
        if let Some(handle) = &mut self.handle {
            handle.count(&mut self.account);
        }
        self.settled.published = true;
        let gap = self.lost_since.map(|since| since.elapsed());
        Status {
            state: self.state.clone(),
            note: self.note.clone(),
            received: self.account.received - self.before.received,
            dropped: self.account.dropped - self.before.dropped,
            lost: self.account.lost - self.before.lost,
            rejected: self.account.rejected,
            interface_dropped: self.account.card_dropped,
            reopened: self.reopened,
            lost_time: self.lost_time + gap.unwrap_or_default(),
        }
    }

    /// The kernel goes on filling our ring; that of libpcap a successor could not read.
    fn leave(&mut self) -> bool {
        match &self.handle {
            Some(handle) => handle.ring().is_some() && self.drain_by.is_none(),
            None => true,
        }
    }

    fn stop(&mut self) {
        if self.stop_by.is_some() {
            return;
        }
        self.stop_by = Some(self.drained_by());
        if let Some(handle) = &self.handle {
            handle.reject_all();
        }
    }
}

/// A capture that has ended in order has no successor; one that is dropped otherwise has.
impl Drop for Live {
    fn drop(&mut self) {
        if self.finished {
            let stored = self.stored_as.take();
            let names = self.settled.names.drain(..).chain(stored);
            names.for_each(|name| fd_store::remove(&name));
        }
    }
}
/// What the system knows of an interface.
struct Link {
    index: usize,
    up: bool,
}

fn look_up(device: &str) -> Option<Link> {
    let index = if_nametoindex(device).ok()?;
    let up = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
    let mut entries = nix::ifaddrs::getifaddrs().ok()?;
    Some(Link {
        index: index as usize,
        // Whatever its addresses are; a tunnel may have none at all.
        up: entries.any(|entry| entry.interface_name == device && entry.flags.contains(up)),
    })
}
