//! Sessions: flows of DNS, HTTP, TLS and mail, followed by the tracker of their protocol and judged by what they carry.
//!
//! ```text
//!   packet -> flow -> detection: which protocol? -> its tracker -> exchanges: whose bytes are these, and are they wanted?
//! ```
//!
//! What is judged as one is an [`Exchange`]: a DNS message, an HTTP request with its response, a TLS connection, a mail. Its packets are forwarded
//! together, those included that came before it was known to match, or not at all. Packets without payload are of the exchange that began last.
//!
//! Each protocol is a folder of the same shape, and knows nothing of packets: a parser of its messages, a tracker that keeps what a session needs ([`Protocol`]), and what filters compare its messages with.
//!
//! | protocol | exchange | folder |
//! |---|---|---|
//! | DNS | a message | `dns` |
//! | HTTP | a request and its response | `http` |
//! | TLS, DTLS, QUIC | a connection | `tls` |
//! | SMTP | a mail, with what leads to it | `email` |
//! | IMAP, POP3 | a connection | `email` |
//!
//! | module | what it does |
//! |---|---|
//! | `tracker` | what a protocol has to know, and what it tells |
//! | `roster`, `protocols` | which protocols are followed |
//! | `sessions`, `floor` | from packets to sessions, and from what they carry to exchanges |
//! | `exchanges` | the board: which exchanges are wanted, and why |
//! | `side` | whose which bytes are |
//! | `waiting`, `notes` | packets that wait, and what is told of them |
//! | `counts` | what protocols count |
//! | `early`, `pending` | what has come before it is known what a connection carries, or what its protocol needs |
//! | `waypoint`, `journal` | where a session is, and what a successor has to know of it |
//! | `desk` | holds, sends and counts |
//! | `script` | plays sessions to a protocol, and keeps what it tells: for tests and checks |

mod counts;
pub mod desk;
mod early;
pub mod exchanges;
pub mod floor;
pub mod journal;
mod notes;
mod pending;
mod pool;
pub mod protocols;
pub mod roster;
pub mod script;
pub mod sessions;
mod side;
pub mod tracker;
pub mod waiting;
pub mod waypoint;

#[cfg(test)]
mod counting_tests;
#[cfg(test)]
mod desk_tests;
#[cfg(test)]
mod successor_tests;
#[cfg(test)]
mod toy;

pub use tracker::{
    At, Cited, Content, Course, Ends, Exchange, MOST_PLACE, Note, Place, Protocol, Tell,
};
