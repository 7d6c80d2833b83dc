//! Sleeping until the other side of a ring moves its cursor.
//!
//! The sleeper raises its own flag, then looks again; the mover moves its cursor, then looks at the
//! flag. A full fence between the two steps on both sides makes sure that at least one of them
//! sees the other: either the sleeper finds the new cursor, or the mover finds the flag and wakes.
//! A busy system makes no system call; an idle one sleeps in the kernel, on the cursor itself (a
//! futex works on a read-only mapping), so the mover's process is never trusted with more than
//! its own region.
//!
//! One call can sleep on several rings (`futex_waitv`, Linux 5.16): a worker reads one ring from
//! each capture thread, the forwarder one from each worker.

use crate::ring::Side;
use crate::sync::{Ordering, fence};
use std::time::Duration;

/// Looks at the other side's cursor before sleeping, with a pause between: about a microsecond.
const SPINS: u32 = 32;

/// Tells a sleeping peer that this side's cursor moved. Call after the Release store of the cursor.
#[inline]
pub(crate) fn wake(mine: &Side, peer: &Side) {
    // Pairs with the fence in `until_moved`.
    fence(Ordering::SeqCst);
    if peer.sleeping.0.load(Ordering::Relaxed) != 0 {
        futex::wake(&mine.cursor.0);
    }
}

/// Returns once, for any of `(mine, peer, seen)`, the peer's cursor is no longer `seen`, or after
/// `timeout`; may return early.
pub(crate) fn until_moved(sides: &[(&Side, &Side, u64)], timeout: Duration) {
    let moved = || {
        // Pairs with the Release stores of cursors in `ring`.
        sides
            .iter()
            .any(|(_, peer, seen)| peer.cursor.0.load(Ordering::Acquire) != *seen)
    };
    for _ in 0..if cfg!(loom) { 1 } else { SPINS } {
        if moved() {
            return;
        }
        std::hint::spin_loop();
    }
    for (mine, ..) in sides {
        mine.sleeping.0.store(1, Ordering::Relaxed);
    }
    // Pairs with the fence in `wake`.
    fence(Ordering::SeqCst);
    if !moved() {
        futex::wait(sides, timeout);
    }
    for (mine, ..) in sides {
        mine.sleeping.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(not(loom))]
mod futex {
    use super::Side;
    use crate::sync::{AtomicU32, AtomicU64};
    use rustix::thread::futex::{
        Flags, Wait, WaitFlags, WaitPtr, WaitvFlags, waitv, wake as futex_wake,
    };
    use std::ptr::NonNull;
    use std::time::Duration;

    /// Most futexes of one `futex_waitv` call (`FUTEX_WAITV_MAX`).
    const MOST: usize = 128;

    pub(super) fn wake(cursor: &AtomicU64) {
        // SAFETY: the low half of a little-endian u64 is a valid, aligned u32 within it.
        let low = unsafe { NonNull::from(cursor).cast::<AtomicU32>().as_ref() };
        // An error could only mean that the address is bad, which a live reference is not.
        let _ = futex_wake(low, Flags::empty(), 1);
    }

    pub(super) fn wait(sides: &[(&Side, &Side, u64)], timeout: Duration) {
        let mut words = [Wait::new(); MOST];
        let sides = &sides[..sides.len().min(MOST)];
        for (word, (_, peer, seen)) in words.iter_mut().zip(sides) {
            // The kernel compares 32 bits: a ring is at most 1 GiB, so two different cursors of
            // the same moment differ there too.
            word.val = *seen & 0xffff_ffff;
            word.uaddr = WaitPtr::new(std::ptr::from_ref(&peer.cursor.0).cast_mut().cast());
            word.flags = WaitFlags::SIZE_U32;
        }
        let until = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let timeout = timeout.min(Duration::from_secs(3600));
        let nanos = until.tv_nsec as u64 + u64::from(timeout.subsec_nanos());
        let until = rustix::time::Timespec {
            tv_sec: until
                .tv_sec
                .saturating_add_unsigned(timeout.as_secs() + nanos / 1_000_000_000),
            tv_nsec: (nanos % 1_000_000_000) as _,
        };
        // Woken, timed out, interrupted or moved meanwhile: the caller looks again in any case.
        let _ = waitv(
            &words[..sides.len()],
            WaitvFlags::empty(),
            Some(&until),
            rustix::thread::ClockId::Monotonic,
        );
    }

    #[cfg(not(target_endian = "little"))]
    compile_error!("the layout is little-endian");
}

/// A futex for the model checker: comparing and falling asleep are one step under a lock, and the
/// timeout never comes, so a lost wake-up shows as a deadlock.
#[cfg(loom)]
mod futex {
    use super::Side;
    use crate::sync::{AtomicU64, Ordering};
    use loom::sync::{Condvar, Mutex};
    use std::time::Duration;

    loom::lazy_static! {
        static ref QUEUE: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    }

    pub(super) fn wake(_: &AtomicU64) {
        let _held = QUEUE.0.lock();
        QUEUE.1.notify_all();
    }

    pub(super) fn wait(sides: &[(&Side, &Side, u64)], _: Duration) {
        let held = QUEUE.0.lock().unwrap();
        if sides
            .iter()
            .all(|(_, peer, seen)| peer.cursor.0.load(Ordering::Relaxed) == *seen)
        {
            drop(QUEUE.1.wait(held));
        }
    }
}
