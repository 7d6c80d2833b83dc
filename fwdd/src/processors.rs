//! The fail-over list: which processor to use, and when to look for a better one.
//!
//! - The first in the list that may be tried is used. When it fails the next one is tried at once; pauses are between
//!   two tries of the same processor ([`crate::breaker`]).
//! - While a later one is in use, the earlier ones are tried beside it, each when its breaker allows. One that takes
//!   this node is gone over to.
//! - While the node ends, breakers hold nothing up: processors take turns until the time is over.
//!
//! It only keeps the books, and says in log, counters and shared memory how each processor fares.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lc_daemon::config::CircuitBreaker;
use shm_layout::counters::ForwardCounter;
use shm_layout::forwarder::{Forwarder, ProcessorState};
use shm_layout::region::OwnedRegion;

use crate::breaker::{Breaker, State};
use crate::ledger::Ledger;
use crate::outage::Outage;
use crate::transport::Target;

/// Between two tries of one processor while the node ends.
const LAST_TRIES: Duration = Duration::from_millis(100);

/// The books of all processors.
pub(crate) struct Processors {
    list: Vec<Processor>,
    in_use: Option<usize>,
    /// Of the present or last session.
    last: Option<usize>,
    region: Arc<OwnedRegion<Forwarder>>,
    ledger: Arc<Ledger>,
}

struct Processor {
    name: String,
    breaker: Breaker,
    outage: Outage,
    tried: Option<Instant>,
}

impl Processors {
    /// In order of preference.
    pub(crate) fn new(
        targets: &[Target],
        limits: CircuitBreaker,
        region: Arc<OwnedRegion<Forwarder>>,
        ledger: Arc<Ledger>,
    ) -> Self {
        let list = targets.iter().map(|target| Processor {
            name: target.to_string(),
            breaker: Breaker::new(limits),
            outage: Outage::default(),
            tried: None,
        });
        let processors = Self {
            list: list.collect(),
            in_use: None,
            last: None,
            region,
            ledger,
        };
        processors.show();
        processors
    }

    /// The processor to try now, or the moment when there is one.
    pub(crate) fn choose(&self, now: Instant) -> Result<usize, Instant> {
        let mut soonest = None;
        for (index, one) in self.list.iter().enumerate() {
            match one.breaker.not_before().filter(|at| *at > now) {
                None => return Ok(index),
                Some(at) => soonest = soonest.into_iter().chain([at]).min(),
            }
        }
        Err(soonest.unwrap_or(now))
    }

    /// The same while the node ends: the one that was tried longest ago.
    pub(crate) fn choose_at_the_end(&self, now: Instant) -> Result<usize, Instant> {
        let oldest = self
            .list
            .iter()
            .enumerate()
            .min_by_key(|(_, one)| one.tried);
        match oldest {
            Some((
                _,
                Processor {
                    tried: Some(at), ..
                },
            )) if *at + LAST_TRIES > now => Err(*at + LAST_TRIES),
            Some((index, _)) => Ok(index),
            None => Err(now + LAST_TRIES),
        }
    }

    /// The processor to try beside a session with `present`: one that goes before it, or itself if `anew`.
    pub(crate) fn better(&self, present: usize, anew: bool, now: Instant) -> Option<usize> {
        let end = if anew { present + 1 } else { present };
        let candidates = self.list.iter().take(end);
        candidates
            .enumerate()
            .find(|(_, one)| one.breaker.lets_try(now))
            .map(|(index, _)| index)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.list.len() as u32
    }

    /// The name of a processor as the configuration has it.
    pub(crate) fn name(&self, index: usize) -> &str {
        &self.list[index].name
    }

    /// Notes that a processor is tried.
    pub(crate) fn tried(&mut self, index: usize, now: Instant) {
        self.list[index].tried = Some(now);
        self.update(index, Breaker::tried);
    }

    /// Notes that it could not be reached, or that a session with it was lost.
    pub(crate) fn failed(&mut self, index: usize, reason: &str, now: Instant) {
        self.region.set_error(&match self.list.len() {
            1 => reason.to_owned(),
            _ => format!("{}: {reason}", self.name(index)),
        });
        let Processor { name, outage, .. } = &mut self.list[index];
        if let Some(attempts) = outage.failed(reason, now) {
            tracing::warn!(
                processor = *name,
                attempts,
                "no session with the processor: {reason}"
            );
        }
        let chance = rand::random_range(0.0..1.0);
        self.update(index, |breaker| breaker.failed(now, chance));
    }

    /// Notes that a session begins. Returns how many attempts had failed before.
    pub(crate) fn begun(&mut self, index: usize) -> u64 {
        if self.last.is_some_and(|last| last != index) {
            self.ledger.count(ForwardCounter::ProcessorChanges, 1);
        }
        (self.in_use, self.last) = (Some(index), Some(index));
        self.show();
        self.list[index].outage.ended()
    }

    /// Notes how the session goes; whether it is good.
    pub(crate) fn lives(&mut self, index: usize, lived: Duration, carried: bool) -> bool {
        self.update(index, |breaker| breaker.lives(lived, carried))
    }

    /// Notes that the session is over.
    pub(crate) fn ended(&mut self) {
        self.in_use = None;
        self.show();
    }

    fn update<T>(&mut self, index: usize, change: impl FnOnce(&mut Breaker) -> T) -> T {
        let Processor { name, breaker, .. } = &mut self.list[index];
        let before = breaker.state();
        let result = change(breaker);
        let after = breaker.state();
        if before == after {
            return result;
        }
        let processor = name.as_str();
        match (before, after) {
            (State::Closed, _) => {
                tracing::warn!(processor, "circuit breaker open: left alone for a while");
            }
            (_, State::Open) => tracing::info!(processor, "circuit breaker open again"),
            (_, State::HalfOpen) => {
                tracing::info!(processor, "circuit breaker half-open: one connection tries");
            }
            (_, State::Closed) => tracing::info!(processor, "circuit breaker closed"),
        }
        if after == State::Open {
            self.ledger.count(ForwardCounter::BreakerOpened, 1);
        }
        self.show();
        result
    }

    fn show(&self) {
        let states = self.list.iter().enumerate();
        let states = states.map(|(index, one)| ProcessorState {
            breaker: one.breaker.state(),
            in_use: self.in_use == Some(index),
        });
        self.region.set_processors(&states.collect::<Vec<_>>());
    }
}
