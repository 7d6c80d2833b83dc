//! Traffic and measurements for lc-hunt.
//!
//! [`generate`] makes traffic whose every byte follows from a seed, so that a demo, a test and a
//! benchmark can be repeated exactly. The measurements run the real daemons as real processes;
//! nothing here is part of the product's packet path.

#![forbid(unsafe_code)]

pub mod generate;
