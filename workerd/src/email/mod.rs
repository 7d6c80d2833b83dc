//! Mail: SMTP, IMAP and POP3.
//!
//! ```text
//!   stream -> lines, texts, literals -> session of the protocol -> tracker: exchanges, notes, what filters compare
//!                    `- text of a mail -> head and body -> sender, subject, texts
//! ```

pub mod content;
pub mod dots;
pub mod follow;
pub mod heard;
pub mod imap;
pub mod kept;
pub mod letter;
pub mod lines;
pub mod mail;
pub mod means;
pub mod mime;
pub mod open;
pub mod pop3;
pub mod reading;
pub mod sasl;
pub mod sides;
pub mod smtp;

#[cfg(test)]
mod fetching_tests;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod row_tests;
#[cfg(test)]
mod smtp_tests;

use crate::extract::lines::starts_ignoring_case;
use crate::matcher::{Kind, Kinds};

/// What mail has.
pub const KINDS: Kinds = Kinds::of(&[Kind::EmailAddress, Kind::EmailSubject]);

/// Fields that the head of a mail begins with, in lower case.
const FIELDS: &[&[u8]] = &[
    b"return-path:",
    b"received:",
    b"date:",
    b"from:",
    b"sender:",
    b"reply-to:",
    b"to:",
    b"cc:",
    b"message-id:",
    b"in-reply-to:",
    b"references:",
    b"subject:",
    b"mime-version:",
    b"content-type:",
    b"dkim-signature:",
    b"authentication-results:",
    b"user-agent:",
    b"x-",
];

/// Whether the head of a mail may begin so.
#[must_use]
pub fn is_mail_field(line: &[u8]) -> bool {
    FIELDS.iter().any(|field| starts_ignoring_case(line, field))
}
