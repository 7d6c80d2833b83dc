//! The thread that compiles filters while packets flow.
//!
//! The worker hands it a snapshot and asks now and then whether the set is ready; both cost no more than an atomic operation. A
//! set that is replaced comes back here, because to free it takes long, too. The thread ends with the [`Compiler`].
//!
//! It is to be started before the sandbox, which forbids new threads.

use super::refused::Refused;
use super::set::FilterSet;
use lc_daemon::config::NoFilterPolicy;
use shm_layout::filters::{Snapshot, SnapshotError};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Why there is no set.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The snapshot can't be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The thread has died, which its own message explains. No set will be compiled any more.
    #[error("the thread that compiles filters is gone; restart the worker")]
    Gone,
}

/// A set that is ready.
#[derive(Debug)]
pub struct Compiled {
    /// The set.
    pub filters: Box<FilterSet>,
    /// What could not be compiled.
    pub refused: Vec<Refused>,
    /// How long it took to read and compile.
    pub took: Duration,
}

/// The worker's end of the thread.
#[derive(Debug)]
pub struct Compiler {
    orders: Sender<Order>,
    results: Receiver<Result<Compiled, SnapshotError>>,
    waiting: bool,
}

#[derive(Debug)]
enum Order {
    Compile(OwnedFd),
    Free(Box<FilterSet>),
}

impl Compiler {
    /// Starts the thread; `first` is the first thing that it does.
    ///
    /// # Errors
    /// The system has no room for another thread.
    pub fn start(
        policy: NoFilterPolicy,
        first: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let (orders, received) = channel::<Order>();
        let (done, results) = channel();
        let (begun, begins) = channel::<()>();
        thread::Builder::new()
            .name("lc-filters".to_owned())
            .spawn(move || {
                first();
                drop(begun);
                for order in received {
                    match order {
                        Order::Compile(fd) => {
                            if done.send(compile(&fd, policy)).is_err() {
                                return;
                            }
                        }
                        Order::Free(filters) => drop(filters),
                    }
                }
            })?;
        // An error is what is waited for: that the other end is gone.
        let _ = begins.recv();
        Ok(Self {
            orders,
            results,
            waiting: false,
        })
    }

    /// Whether a set is being compiled.
    #[must_use]
    #[inline]
    pub fn is_busy(&self) -> bool {
        self.waiting
    }

    /// Begins to compile a snapshot. One at a time.
    pub fn begin(&mut self, snapshot: OwnedFd) {
        self.waiting = self.orders.send(Order::Compile(snapshot)).is_ok();
    }

    /// The set, once it is ready; it waits for nothing.
    pub fn take(&mut self) -> Option<Result<Compiled, CompileError>> {
        let result = match self.results.try_recv() {
            Ok(result) => result.map_err(CompileError::Snapshot),
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(CompileError::Gone),
        };
        self.waiting = false;
        Some(result)
    }

    /// Frees a set that is not in force any more.
    pub fn free(&self, filters: Box<FilterSet>) {
        // Without the thread it is freed here.
        let _ = self.orders.send(Order::Free(filters));
    }
}

fn compile(fd: &OwnedFd, policy: NoFilterPolicy) -> Result<Compiled, SnapshotError> {
    let start = Instant::now();
    let snapshot = Snapshot::read(fd.as_fd())?;
    let (filters, refused) = FilterSet::compile(&snapshot, policy);
    Ok(Compiled {
        filters: Box::new(filters),
        refused,
        took: start.elapsed(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use shm_layout::filters::Filter;

    #[test]
    fn sets_are_compiled_one_after_the_other_and_refusals_come_with_them() {
        let mut compiler = Compiler::start(NoFilterPolicy::Deny, || {}).unwrap();
        for generation in 1..=3 {
            let filter = |id: &str, pattern: &str| Filter {
                id: id.to_owned(),
                filter_type: 2,
                pattern: pattern.to_owned(),
                enabled: true,
            };
            let filters = vec![filter("a", "10.0.0.1"), filter("b", "bogus")];
            compiler.begin(
                Snapshot {
                    generation,
                    filters,
                }
                .seal()
                .unwrap(),
            );
            assert!(compiler.is_busy());
            let compiled = loop {
                match compiler.take() {
                    Some(compiled) => break compiled.unwrap(),
                    None => std::thread::yield_now(),
                }
            };
            assert!(!compiler.is_busy());
            assert_eq!(compiled.filters.generation(), generation);
            assert_eq!(compiled.refused[0].id, "b");
            compiler.free(compiled.filters);
        }
    }

    #[test]
    fn what_is_no_snapshot_is_an_error() {
        let mut compiler = Compiler::start(NoFilterPolicy::Deny, || {}).unwrap();
        compiler.begin(std::fs::File::open("/dev/null").unwrap().into());
        let result = loop {
            match compiler.take() {
                Some(result) => break result,
                None => std::thread::yield_now(),
            }
        };
        assert!(result.is_err());
    }
}
