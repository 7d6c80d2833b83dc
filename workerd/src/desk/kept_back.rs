//! How packets count that nobody asks for.

use shm_layout::counters::WorkerCounter as Counter;

use crate::decode::Decoded;
use crate::matcher::{Fields, Judge, Matches, Verdict};

/// Asks the filters once for each generation.
#[derive(Debug, Default)]
pub struct KeptBack {
    known: Option<((u64, bool), Counter)>,
    matches: Matches,
}

impl KeptBack {
    /// The counter of such packets.
    #[inline]
    pub fn counter(&mut self, judge: Judge<'_>) -> Counter {
        let Judge {
            filters,
            bpf_active,
        } = judge;
        let by = (filters.generation(), bpf_active);
        match self.known {
            Some((known, counter)) if known == by => counter,
            _ => {
                let nothing = (&Decoded::default(), &Fields::default());
                let verdict = filters.judge(nothing.0, nothing.1, bpf_active, &mut self.matches);
                let counter = match verdict {
                    Verdict::Denied => Counter::FilteredByPolicy,
                    _ => Counter::FilteredNoMatch,
                };
                self.known = Some((by, counter));
                counter
            }
        }
    }
}
