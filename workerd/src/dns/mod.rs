//! DNS (RFC 1035), over UDP and TCP, on any port; mDNS (RFC 6762) and LLMNR (RFC 4795), which have the same messages.
//!
//! ```text
//!   datagram ------------------+
//!   stream -> framer: lengths -+-> message -> names ----> filters
//!                                      |----> analysis: whose response? a tunnel? -+
//!                                      +----> account <----------------------------+--> block `dns`, info, details
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`message`], [`name`] | header, questions, records and names, where they stand in the message |
//! | [`edns`], [`data`], [`codes`], [`text`] | what extensions, data and numbers say |
//! | [`framer`] | messages of a byte stream |
//! | [`names`], [`e164`] | what filters are compared with; telephone numbers in names |
//! | [`queries`] | which response is whose |
//! | [`tunnels`], [`entropy`], [`services`] | what looks like a tunnel |
//! | [`analysis`], [`account`] | all that is found out about a message, and how it is told |
//! | [`tracker`] | DNS as a protocol of [sessions](crate::session) |
//!
//! One parser serves detection, the extraction of fields and the tracker. A message is an exchange of its own: queries and responses match independently, as in the reference.
//!
//! **Filters** are compared with the names of questions, the owners of answers and the targets of aliases (CNAME); with the setting `match_targets` also with the names that DNAME, NS, PTR, MX, SRV, SVCB and
//! HTTPS records lead to. Names below `e164.arpa` are compared with filters for telephone numbers and SIP users too.
//!
//! **Bounds.** No recursion; work linear in a message, but for names: each costs at most [`name::LONGEST`] bytes and [`name::MOST_POINTERS`] pointers. Tables are made once and never
//! grow. Nothing is allocated per message once buffers have their size, but for names that are not ASCII.

pub mod account;
pub mod analysis;
pub mod codes;
pub mod data;
pub mod e164;
pub mod edns;
pub mod entropy;
pub mod framer;
pub mod message;
pub mod name;
pub mod names;
pub mod queries;
pub mod services;
pub mod text;
pub mod tracker;
pub mod tunnels;

pub use tracker::Dns;

#[cfg(test)]
mod row_tests;
#[cfg(test)]
mod tracker_tests;
