//! What a process is told by signals: SIGTERM and SIGINT ask it to end in good order, SIGUSR2 to take in nothing more,
//! SIGHUP to read its configuration again.
//!
//! A handler only sets a flag and wakes whoever waits; the work is done by the program's own loops.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};

/// The signals of this process. Install it once, early, before any thread is started.
#[derive(Debug)]
pub struct Signals {
    stop: Stop,
    close: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    /// Becomes readable with each signal.
    wake: UnixStream,
}

/// Whether the process has been asked to end. Cheap to copy into every thread and to look at in every loop.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Signals {
    /// Takes over SIGTERM, SIGINT, SIGUSR2 and SIGHUP.
    pub fn install() -> io::Result<Self> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let signals = Signals {
            stop: Stop::default(),
            close: Arc::default(),
            reload: Arc::default(),
            wake,
        };
        // Actions run in the order of registration: the flag must stand before the waiter wakes.
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&signals.stop.0))?;
        }
        signal_hook::flag::register(SIGUSR2, Arc::clone(&signals.close))?;
        signal_hook::flag::register(SIGHUP, Arc::clone(&signals.reload))?;
        for signal in [SIGTERM, SIGINT, SIGUSR2, SIGHUP] {
            signal_hook::low_level::pipe::register(signal, waker.try_clone()?)?;
        }
        Ok(signals)
    }

    /// The flag to hand to other threads.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Whether the process has been asked to take in nothing more.
    pub fn close_requested(&self) -> bool {
        // Pairs with the store in the signal handler; the flag carries no other data.
        self.close.load(Ordering::Acquire)
    }

    /// Whether SIGHUP came since the last call.
    pub fn take_reload(&self) -> bool {
        // Pairs with the store in the signal handler; the flag carries no other data.
        self.reload.swap(false, Ordering::AcqRel)
    }

    /// Sleeps until a signal comes or the time is over.
    pub fn wait(&self, time: Duration) {
        let time = Timespec::try_from(time).ok();
        let mut fds = [PollFd::new(&self.wake, PollFlags::IN)];
        // An error here is an interruption by the very signal that is waited for.
        let _ = poll(&mut fds, time.as_ref());
        self.clear();
    }

    /// Forgets the wake-ups so far. After a poll on [`Signals::as_fd`], call it before looking at the flags.
    pub fn clear(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.wake).read(&mut bytes), Ok(n) if n > 0) {}
    }
}

/// Becomes readable when a signal came.
impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl Stop {
    /// Whether the process has been asked to end.
    pub fn requested(&self) -> bool {
        // Pairs with the store in `request` and in the signal handler.
        self.0.load(Ordering::Acquire)
    }

    /// Asks the process to end, as a signal would, but wakes nobody.
    pub fn request(&self) {
        // Pairs with the load in `requested`.
        self.0.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn signals_set_flags_and_wake() {
        let signals = Signals::install().unwrap();
        let stop = signals.stop();
        assert!(!signals.take_reload());
        signal_hook::low_level::raise(SIGHUP).unwrap();
        let begin = Instant::now();
        signals.wait(Duration::from_secs(60));
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "the signal did not end the wait"
        );
        assert!(signals.take_reload());
        assert!(!signals.take_reload());
        assert!(!signals.close_requested());
        signal_hook::low_level::raise(SIGUSR2).unwrap();
        assert!(signals.close_requested());
        assert!(!stop.requested());
        signal_hook::low_level::raise(SIGTERM).unwrap();
        signals.wait(Duration::from_secs(60));
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "the signal did not end the wait"
        );
        assert!(stop.requested());
    }
}
