//! POP3 (RFC 1939).
//!
//! A connection is an exchange. Replies are paired with commands, since only the command tells whether a reply goes on behind its first line; the text of RETR and TOP is read as a mail. Its sender and recipients are those of its head;
//! the user counts as an address too, since the mailbox is theirs.
//!
//! Passwords and digests are looked at for nothing, and told nowhere. After STLS the connection is TLS.
//!
//! Where bytes are missing, reading goes on with the next ones as the start of a line. While it is not known what a reply answers, a line that looks like the head of a mail begins one.

pub mod command;
pub mod reply;
mod session;

pub use session::{Pop3, Session};
