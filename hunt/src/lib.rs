//! The parts of `lc-hunt` that other programs of this workspace use: running the daemons as children.

#![forbid(unsafe_code)]

pub mod notify;
pub mod supervisor;
