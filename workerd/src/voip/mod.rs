//! Calls: which there are, whether they are wanted, and which packets are theirs.

pub mod abreast;
pub mod account;
pub mod analyser;
pub mod apart;
pub mod assembly;
pub mod call;
#[cfg(test)]
mod call_tests;
pub mod calls;
pub mod chunks;
pub mod desk;
#[cfg(test)]
mod desk_tests;
pub mod dialog;
pub mod ear;
pub mod endpoints;
pub mod findings;
#[cfg(test)]
mod flood_tests;
#[cfg(test)]
pub(crate) mod harness;
pub mod identities;
pub mod journal;
#[cfg(test)]
mod media_tests;
#[cfg(test)]
mod overload_tests;
#[cfg(test)]
mod row_tests;
pub mod settings;
pub mod signal;
pub mod snapshot;
pub mod sources;
pub mod strangers;
pub mod streams;
pub mod switchboard;
#[cfg(test)]
mod tcp_tests;
