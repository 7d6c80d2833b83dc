//! What every lc-hunt daemon does alike.
//!
//! One place for the things that must be the same in each process of a node: which settings exist and what they mean
//! ([`settings`], [`config`]), how a process logs ([`logging`]), reports that it is ready ([`ready`]), is told to stop
//! ([`signals`]), which CPUs it runs on ([`pinning`]), reads what another one has written ([`calls_log`], [`key_log`]), says why it ended ([`exit`]) and what it gives up before it touches input ([`sandbox`]). Nothing in here touches a packet.

#![forbid(unsafe_code)]

pub mod attach;
pub mod calls_log;
pub mod config;
pub mod config_file;
pub mod exit;
pub mod fd_store;
pub mod key_log;
pub mod logging;
pub mod pinning;
pub mod ready;
pub mod sandbox;
pub mod settings;
pub mod signals;
