//! SMTP (RFC 5321), submission (RFC 6409) and LMTP (RFC 2033).
//!
//! ```text
//!   client: EHLO  MAIL  RCPT  DATA  text .   MAIL ...            QUIT
//!   server: 220 250   250   250   354        250   250 ...       221
//!           `------------ exchange 1 -----------'`--- exchange 2 ---'
//! ```
//!
//! An exchange is a mail with what leads to it: it goes on until the next MAIL after its mail is over: sent, refused or given up by RSET. Replies are of the exchange of their commands ([`pairing`]). Who is the client shows in what is said.
//!
//! After STARTTLS the connection is TLS. What a client says between AUTH and the reply to it are secrets: only the user's name is taken out of it ([`sasl`](super::sasl)).
//!
//! Where bytes are missing, reading goes on with the next ones as the start of a line; a mail whose end is missing ends with the reply to it. A connection that is picked up in a mail is read from the first
//! fields of its head, or the server's 354.

mod client;
pub mod command;
pub mod pairing;
mod place;
pub mod reply;
mod server;
mod session;
mod telling;

pub use session::{Session, Smtp};
