//! The flow table.
mod clock;
mod key;
mod life;
mod table;

pub use key::{Probe, Seed, Zone};
pub use life::{Direction, Signal, Timeouts};
pub use table::{Counts, Flow, FlowTable, NoMemory};

#[cfg(test)]
mod tests;
