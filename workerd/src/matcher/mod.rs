//! The processor's filters, compiled: one immutable set per generation, and the verdict on a packet.
//!
//! ```text
//!   addresses of a packet --> prefixes ---------------------+
//!   fields (kind, text) ----> texts of that kind -----------+--> hits --> ids, in order --> verdict
//!     `- digits of a user --> texts of telephone numbers ---+
//! ```
//!
//! - All matching filters are told, each once: first those that the reference implementation reports, in its order, then those that it
//!   hides (shorter prefixes, shorter numbers, duplicates).
//! - Disabled filters don't count. What can't be compiled is refused with its reason ([`Refused`]) and doesn't count; the rest is in force.
//! - Patterns of a set take at most [`set::MOST_TEXT_BYTES`], those that go into automata at most [`set::MOST_NEEDLE_BYTES`].
//! - Nothing here allocates per packet. Memory for results belongs to the caller ([`Fields`], [`Matches`]) and is used again.
//! - [`FilterSet::search`] is the batch interface: fields of many packets in, hits out. Whatever else compares texts, on an
//!   accelerator say, takes its place.
//! - [`Compiler`] is the thread that compiles while packets flow.
//!
//! ```
//! use lc_daemon::config::NoFilterPolicy;
//! use lc_workerd::decode::Decoded;
//! use lc_workerd::matcher::{Fields, FilterSet, Kind, Matches, Verdict};
//! use shm_layout::filters::{Filter, Snapshot};
//!
//! let filter = Filter { id: "f".into(), filter_type: 7, pattern: "*.example.com".into(), enabled: true };
//! let snapshot = Snapshot { generation: 1, filters: vec![filter] };
//! let (set, refused) = FilterSet::compile(&snapshot, NoFilterPolicy::Deny);
//! assert!(refused.is_empty() && set.wanted().has(Kind::DnsName));
//!
//! let (mut fields, mut matches) = (Fields::default(), Matches::default());
//! fields.push(Kind::DnsName, b"WWW.example.com");
//! assert_eq!(set.judge(&Decoded::default(), &fields, false, &mut matches), Verdict::Matched);
//! assert_eq!(set.id(matches.filters()[0]), "f");
//! ```

pub mod addresses;
pub mod automaton;
pub mod compiler;
pub mod digits;
pub mod fields;
pub mod hits;
pub mod lower;
pub mod pattern;
pub mod prefixes;
pub mod refused;
pub mod set;
pub mod table;
pub mod texts;

pub use compiler::{CompileError, Compiler};
pub use fields::{Fields, Kind, Kinds};
pub use hits::Matches;
pub use refused::{Reason, Refused};
pub use set::{FilterSet, Judge, Verdict};

/// Index of a filter in its set.
pub type FilterIndex = u32;
