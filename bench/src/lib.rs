//! Traffic and measurements for lc-hunt.
//!
//! [`generate`] makes traffic whose every byte follows from a seed, so that a demo, a test and a
//! benchmark can be repeated exactly. The measurements run real processes: [`ring`] one ring
//! between two of them, [`throughput`] the product's daemons, fed by [`memory_source`], [`reload`] the
//! same while their filters are replaced, [`calls`] the same with very many calls, [`modes`] the same in each mode, and beside tshark; [`detect`] compares detection with nDPI's. Nothing here is part of the product's
//! packet path.

#![forbid(unsafe_code)]

pub mod calls;
pub mod detect;
pub mod generate;
pub mod memory_source;
pub mod modes;
pub mod reload;
pub mod ring;
pub mod spread;
pub mod throughput;
