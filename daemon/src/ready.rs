//! What a daemon tells the process that started it: the protocol of `sd_notify(3)`, understood by systemd and by
//! `lc-hunt`. Without a listener all of it does nothing.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use sd_notify::NotifyState;

/// Set by `lc-hunt` for its children to its own process id.
pub const SUPERVISED_BY: &str = "LC_HUNT_SUPERVISED";

/// Most descriptors of one message (`SCM_MAX_FD`).
pub(crate) const MOST_DESCRIPTORS: usize = 253;

/// The daemon is up: it has attached to everything it needs and works. `status` says in a few words what it does.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// Says in a few words what the daemon does or waits for.
pub fn status(status: &str) {
    notify(&[NotifyState::Status(&one_line(status))]);
}

/// The daemon takes in nothing more, but goes on serving others. (STOPPING would mean to systemd that it needs no SIGTERM.)
pub fn closed() {
    notify(&[NotifyState::Custom("X_LC_CLOSED=1")]);
}

/// The daemon begins to read again what may have changed; [`reloaded`] must follow.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no time to tell the service manager"),
    }
}

/// The daemon works with what it has read again, or goes on with the old.
pub fn reloaded() {
    notify(&[NotifyState::Ready]);
}

/// The daemon has begun to end in good order.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Whether somebody listens: a service manager, which keeps descriptors and starts successors.
#[must_use]
pub fn is_heard() -> bool {
    listener().is_some()
}

/// The daemon makes progress; to be called only while that is true, as often as one likes: the watchdog hears of it once
/// a second.
pub fn alive() {
    static HEARD_NS: AtomicU64 = AtomicU64::new(0);
    let now = shm_layout::monotonic_ns();
    if now.saturating_sub(HEARD_NS.load(Ordering::Relaxed)) >= 1_000_000_000 {
        HEARD_NS.store(now, Ordering::Relaxed);
        notify(&[NotifyState::Watchdog]);
    }
}

/// Makes this process end with the supervisor that started it, if one did. Call it first thing in `main`.
///
/// # Errors
///
/// The supervisor is gone already, or the kernel refuses.
pub fn end_with_supervisor() -> io::Result<()> {
    let Some(supervisor) = env::var(SUPERVISED_BY)
        .ok()
        .and_then(|pid| pid.parse().ok())
        .and_then(Pid::from_raw)
    else {
        return Ok(());
    };
    set_parent_process_death_signal(Some(Signal::TERM))?;
    // The supervisor may have ended before the line above took effect.
    if getppid() == Some(supervisor) {
        Ok(())
    } else {
        Err(io::Error::other("lc-hunt has ended"))
    }
}

/// Opens the way to the listener, once: behind its sandbox a process can make no new socket.
pub(crate) fn connect() {
    let _ = listener();
}

/// The socket to the listener; `None` without one.
fn listener() -> Option<&'static UnixDatagram> {
    static LISTENER: OnceLock<Option<UnixDatagram>> = OnceLock::new();
    LISTENER
        .get_or_init(|| {
            let name = env::var_os("NOTIFY_SOCKET")?;
            connected(&name)
                .inspect_err(|error| {
                    tracing::warn!(%error, socket = ?name, "the service manager is not reached");
                })
                .ok()
        })
        .as_ref()
}

/// A name that begins with `@` is none of the file system.
fn connected(name: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(name)?,
    }
    Ok(socket)
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = notify_with(states, &[]) {
        tracing::debug!(%error, "the service manager was not reached");
    }
}

/// Says something, with descriptors that go along.
pub(crate) fn notify_with(
    states: &[NotifyState<'_>],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let Some(listener) = listener() else {
        return Ok(());
    };
    let mut message = String::new();
    for state in states {
        // Writing to a string does not fail.
        let _ = writeln!(message, "{state}");
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let parts = [IoSlice::new(message.as_bytes())];
    sendmsg(listener, &parts, &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The protocol has one line per field.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}
