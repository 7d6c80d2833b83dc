//! Commands, and replies of three digits (RFC 5321 section 4.2, RFC 959 section 4.2), which SMTP and FTP share.

use std::ops::RangeInclusive;

use super::details::Details;
use super::fields::{decimal, head, line, starts_with};

/// Bytes of a payload whose first line is looked at.
pub const WINDOW: usize = 500;

/// The first line of a payload.
pub enum Line<'a> {
    /// An answer of the server.
    Reply(Reply<'a>),
    /// A command, with what follows it.
    Command(&'a [u8]),
}

impl<'a> Line<'a> {
    /// The first line of `payload`, if it is a reply with a code in `codes`, or begins with one of `commands`.
    #[must_use]
    pub fn of(payload: &'a [u8], codes: RangeInclusive<u32>, commands: &[&[u8]]) -> Option<Self> {
        if payload.len() < 4 {
            return None;
        }
        let line = line(head(payload, WINDOW));
        if let Some(reply) = Reply::of(line, codes) {
            return Some(Self::Reply(reply));
        }
        let command = commands.iter().any(|command| starts_with(line, command));
        command.then_some(Self::Command(line))
    }
}

/// The first line of a reply.
pub struct Reply<'a> {
    /// 100 to 599.
    pub code: u32,
    /// Whether more lines follow.
    pub multiline: bool,
    /// The text behind the code.
    pub message: &'a [u8],
}

impl<'a> Reply<'a> {
    /// A line that starts with a code in `codes` and a blank or a hyphen.
    #[must_use]
    pub fn of(line: &'a [u8], codes: RangeInclusive<u32>) -> Option<Self> {
        let (digits, rest) = line.split_at_checked(3)?;
        let (separator, message) = rest.split_first()?;
        let code = decimal(digits)?;
        (codes.contains(&code) && matches!(separator, b' ' | b'-')).then_some(Self {
            code,
            multiline: *separator == b'-',
            message,
        })
    }

    /// Describes it; `categories` are named from 1xx on.
    pub fn describe(&self, categories: [&'static str; 5], details: &mut Details) {
        details.put("type", "response");
        details.put("code", self.code);
        let category = categories[self.code as usize / 100 - 1];
        details.text_if_any("code_category", category.as_bytes());
        details.text("message", self.message);
        details.flag("multiline", self.multiline);
    }
}
