//! End-to-end checks of lc-hunt through its public faces: commands, files, sockets.
//!
//! This library links no crate of the product, so a check shares no code, and no fault, with what it
//! checks:
//!
//! - [`capture`] reads capture files (with the crate `pcap-parser`);
//! - [`flow`] says which packets must keep their order;
//! - [`compare`] tells whether one capture holds exactly the packets of another;
//! - [`process`] runs the product's programs with a deadline, [`node`] and [`processor`] the two
//!   ends of the wire;
//! - [`daemons`] runs the daemons alone;
//! - [`calls`] writes captures of calls, [`conversations`] of others, both with packets of [`ipv4`]; [`generated`] makes captures with `lc-bench`,
//!   [`namespace`] a network to send them over;
//! - [`peers`] joins real clients and servers, such as those of [`web`];
//! - [`saved`] brings back the shared memory of older releases;
//! - [`traces`] are real captures of which [`tshark`] has told what they hold;
//! - [`vectors`] reads what the reference says of single packets;
//! - [`effort`] tells what idle processes cost;
//! - [`chaos`] kills processes at random and checks every packet;
//! - [`outage`] keeps the processor away, with [`numbered`] frames by the million;
//! - [`exchange`] has calls made through a real proxy, over a [`switch`];
//! - [`conformance`] runs lc-hunt over a folder of captures and compares what arrived.
//!
//! The programs `lc-compare`, `lc-conformance`, `lc-chaos`, `lc-outage` and `lc-exchange` are thin faces of five of them; `lc-send` puts a
//! capture on a wire. `lc-taken-over` is a worker that attacks: it starts by the product's own code, to
//! stand behind the product's walls. The folder `tests/` of this crate holds the tests that run real processes;
//! they need the whole workspace built first (`cargo build --workspace`).

#![forbid(unsafe_code)]

pub mod calls;
pub mod capture;
pub mod chaos;
pub mod child;
pub mod compare;
pub mod conformance;
pub mod conversations;
pub mod daemons;
pub mod effort;
pub mod exchange;
pub mod flow;
pub mod generated;
pub mod ipv4;
pub mod namespace;
pub mod node;
pub mod numbered;
pub mod outage;
pub mod peers;
pub mod process;
pub mod processor;
pub mod saved;
pub mod switch;
pub mod traces;
pub mod tshark;
pub mod vectors;
pub mod web;

/// An error in words.
pub(crate) fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Says that a test is skipped, and why, where it is seen: past the test harness, which keeps what
/// passing tests print.
#[macro_export]
macro_rules! skipped {
    ($($reason:tt)*) => {{
        use std::io::Write;
        // A closed standard error is no reason to fail.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {}", format_args!($($reason)*));
    }};
}
