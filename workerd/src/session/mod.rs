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

pub mod tracker;

#[cfg(test)]
pub mod script;

pub use tracker::{At, Content, Course, Ends, Exchange, Note, Protocol, Tell};
