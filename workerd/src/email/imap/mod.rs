//! IMAP (RFC 9051, RFC 3501).
//!
//! A connection is an exchange. Lines are put together with their literals, by true byte counts; replies are paired with commands by their tags. What is fetched and what is appended is read as a mail, and envelopes as its head; its sender
//! and recipients are those of its head. The user counts as an address too, since the mailboxes are theirs.
//!
//! Passwords are looked at for nothing, and told nowhere: of a command its name is told, and that only if it is a known one, since where bytes are missing a secret may look like a command. After STARTTLS the connection is TLS; after
//! COMPRESS (RFC 4978) nothing more is read.
//!
//! Where bytes are missing, reading goes on with the next ones as the start of a line; a literal goes on if it is known how many are missing.

pub mod command;
pub mod response;
mod session;
pub mod token;

pub use session::{Imap, Session};
