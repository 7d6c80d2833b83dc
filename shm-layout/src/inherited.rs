//! Descriptors that a service manager hands to a process when it starts it: the protocol of
//! `sd_listen_fds(3)`, where they are numbered from 3 on. Only here because a number becomes an owned
//! descriptor by a promise that the compiler can't check.

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The first of them.
const FIRST: RawFd = 3;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes over the first `count` descriptors that the service manager has passed, in their order, and
/// makes them close-on-exec. Those that are not open are left out, with their place kept by `None`.
/// A second call gets nothing.
///
/// Call it before the process opens anything of its own: a number from 3 on then can't be anybody
/// else's.
#[must_use]
pub fn descriptors(count: usize) -> Vec<Option<OwnedFd>> {
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    (FIRST..).take(count).map(take).collect()
}

fn take(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: borrowed only for the calls below, which report a number that is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_getfd(borrowed).ok()?;
    fcntl_setfd(borrowed, FdFlags::CLOEXEC).ok()?;
    // SAFETY: the number is open; the service manager passed it to this process, which by the
    // contract above has opened nothing itself, and `TAKEN` lets each be taken once.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
