//! The parts of `lc-hunt` that other programs of this workspace use: running the daemons as children, and seeing how
//! far they have come.

#![forbid(unsafe_code)]

pub mod drain;
mod fd_store;
pub mod ledger;
pub mod notify;
pub mod status;
pub mod supervisor;
pub mod upgrade;
