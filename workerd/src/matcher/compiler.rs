//! The thread that fetches and compiles filters while packets flow.
//!
//! The worker tells it how to fetch a snapshot and asks now and then whether the set is ready; both cost little more than an atomic
//! operation, however long capd takes to answer. A set that is replaced comes back here, because to free it takes long, too. What there
//! is to tell is logged here, so that packets don't wait for it. The thread ends with the [`Compiler`].
//!
//! A set that can't be made is an error, whatever goes wrong, and the next one is made as if nothing had been.
//!
//! It is to be started before the sandbox, which forbids new threads.

use super::refused::Refused;
use super::set::FilterSet;
use lc_daemon::attach::AttachError;
use lc_daemon::config::NoFilterPolicy;
use shm_layout::filters::{Snapshot, SnapshotError};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Why there is no set.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// There is no snapshot to be had from capd.
    #[error(transparent)]
    Fetch(#[from] AttachError),
    /// The snapshot can't be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Compiling ended in a panic, which its own message explains: an error of this program.
    #[error("an internal error, which is told above; please report it")]
    Internal,
    /// The thread has died, which its own message explains. No set will be compiled any more.
    #[error("the thread that compiles filters is gone; restart the worker")]
    Gone,
}

/// A set that is ready.
#[derive(Debug)]
pub struct Compiled {
    /// The set.
    pub filters: Box<FilterSet>,
    /// How many filters could not be compiled; the log says which.
    pub refused: usize,
}

/// How to get at a snapshot; `None`: there is none.
type Fetch = Box<dyn FnOnce() -> Result<Option<OwnedFd>, AttachError> + Send>;

/// The worker's end of the thread.
#[derive(Debug)]
pub struct Compiler {
    orders: Sender<Order>,
    results: Receiver<Result<Option<Compiled>, CompileError>>,
    waiting: bool,
}

enum Order {
    Compile(Fetch),
    Free(Box<FilterSet>, Duration),
}

/// Most filters of a generation whose refusal is told by name.
const MOST_REFUSALS_TOLD: usize = 1_000;

impl Compiler {
    /// Starts the thread; `first` is the first thing that it does.
    ///
    /// # Errors
    /// The system has no room for another thread.
    pub fn start(
        policy: NoFilterPolicy,
        first: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        Self::start_with(first, move |snapshot| {
            #[cfg(debug_assertions)]
            snapshot.filters.iter().for_each(crate::poison::read);
            FilterSet::compile(snapshot, policy)
        })
    }

    fn start_with(
        first: impl FnOnce() + Send + 'static,
        compile: impl Fn(&Snapshot) -> (FilterSet, Vec<Refused>) + Send + 'static,
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
                        Order::Compile(fetch) => {
                            if done.send(make(fetch, &compile)).is_err() {
                                return;
                            }
                        }
                        Order::Free(filters, took) => {
                            let swap_us = took.as_micros() as u64;
                            tracing::debug!(swap_us, "the filters before are out of force");
                            drop(filters);
                        }
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

    /// Begins to fetch and to compile a snapshot. One at a time.
    pub fn begin(
        &mut self,
        fetch: impl FnOnce() -> Result<Option<OwnedFd>, AttachError> + Send + 'static,
    ) {
        self.waiting = self.orders.send(Order::Compile(Box::new(fetch))).is_ok();
    }

    /// The set, once it is ready; it waits for nothing.
    pub fn take(&mut self) -> Option<Result<Compiled, CompileError>> {
        let result = match self.results.try_recv() {
            Ok(result) => result.transpose(),
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Some(Err(CompileError::Gone)),
        };
        self.waiting = false;
        result
    }

    /// Frees a set that is not in force any more; to replace it took so long.
    pub fn replaced(&self, filters: Box<FilterSet>, took: Duration) {
        // Without the thread it is freed here.
        let _ = self.orders.send(Order::Free(filters, took));
    }
}

/// A panic leaves nothing half made behind: what was being made is gone.
fn make(
    fetch: Fetch,
    compile: impl Fn(&Snapshot) -> (FilterSet, Vec<Refused>),
) -> Result<Option<Compiled>, CompileError> {
    let Some(fd) = fetch()? else {
        return Ok(None);
    };
    let start = Instant::now();
    let make = || Ok(compile(&Snapshot::read(fd.as_fd())?));
    let result = catch_unwind(AssertUnwindSafe(make));
    let (filters, refused) = result.unwrap_or(Err(CompileError::Internal))?;
    let compile_us = start.elapsed().as_micros() as u64;
    for refused in refused.iter().take(MOST_REFUSALS_TOLD) {
        tracing::warn!(
            filter = refused.id,
            "{refused}; the other filters are in force"
        );
    }
    tracing::info!(
        generation = filters.generation(),
        refused = refused.len(),
        compile_us,
        bytes = filters.bytes(),
        "filters are compiled"
    );
    Ok(Some(Compiled {
        filters: Box::new(filters),
        refused: refused.len(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shm_layout::filters::Filter;

    fn result(compiler: &mut Compiler) -> Result<Compiled, CompileError> {
        assert!(compiler.is_busy());
        loop {
            match compiler.take() {
                Some(result) => break result,
                None => thread::yield_now(),
            }
        }
    }

    fn snapshot(generation: u64) -> OwnedFd {
        let filter = |id: &str, pattern: &str| Filter {
            id: id.to_owned(),
            filter_type: 2,
            pattern: pattern.to_owned(),
            enabled: true,
        };
        let filters = vec![filter("a", "10.0.0.1"), filter("b", "bogus")];
        let snapshot = Snapshot {
            generation,
            filters,
        };
        snapshot.seal().unwrap()
    }

    #[test]
    fn sets_are_compiled_one_after_the_other_and_refusals_come_with_them() {
        let mut compiler = Compiler::start(NoFilterPolicy::Deny, || {}).unwrap();
        for generation in 1..=3 {
            compiler.begin(move || Ok(Some(snapshot(generation))));
            let compiled = result(&mut compiler).unwrap();
            assert!(!compiler.is_busy());
            assert_eq!(compiled.filters.generation(), generation);
            assert_eq!(compiled.refused, 1);
            compiler.replaced(compiled.filters, Duration::ZERO);
        }
    }

    #[test]
    fn what_is_no_snapshot_is_an_error() {
        let mut compiler = Compiler::start(NoFilterPolicy::Deny, || {}).unwrap();
        compiler.begin(|| Ok(Some(std::fs::File::open("/dev/null").unwrap().into())));
        assert!(result(&mut compiler).is_err());
        compiler.begin(|| Ok(Some(snapshot(1))));
        assert!(result(&mut compiler).is_ok());
    }

    #[test]
    fn where_there_is_no_snapshot_there_is_no_set() {
        let mut compiler = Compiler::start(NoFilterPolicy::Deny, || {}).unwrap();
        compiler.begin(|| Ok(None));
        while compiler.is_busy() {
            assert!(compiler.take().is_none());
            thread::yield_now();
        }
        compiler.begin(|| Err(AttachError::Refused("away".to_owned())));
        assert!(matches!(result(&mut compiler), Err(CompileError::Fetch(_))));
    }

    #[test]
    fn a_panic_is_an_error_and_the_thread_lives_on() {
        let compile = |snapshot: &Snapshot| {
            assert!(snapshot.generation != 2, "on purpose");
            FilterSet::compile(snapshot, NoFilterPolicy::Deny)
        };
        let mut compiler = Compiler::start_with(|| {}, compile).unwrap();
        for generation in 1..=3 {
            compiler.begin(move || Ok(Some(snapshot(generation))));
            match result(&mut compiler) {
                Ok(compiled) => assert_eq!(compiled.filters.generation(), generation),
                Err(error) => assert!(matches!(error, CompileError::Internal) && generation == 2),
            }
        }
    }
}
