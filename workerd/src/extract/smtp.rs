//! Addresses in SMTP commands (RFC 5321), and the subject in the head of a mail (RFC 5322), of one segment.
//!
//! All commands of a segment count (pipelining, RFC 2920), and addresses without brackets.

use super::lines::{Lines, header, starts_ignoring_case};
use crate::matcher::{Fields, Kind, Kinds};
use memchr::memchr;

/// What SMTP has.
pub const KINDS: Kinds = Kinds::of(&[Kind::EmailAddress, Kind::EmailSubject]);

/// With which commands a segment starts.
const COMMANDS: &[&[u8]] = &[
    b"helo ",
    b"ehlo ",
    b"lhlo ",
    b"mail ",
    b"rcpt ",
    b"data\r\n",
    b"rset\r\n",
    b"bdat ",
    b"noop",
];
/// With which headers a mail starts.
const HEADERS: &[&[u8]] = &[
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

/// Whether commands, or a mail, may start so.
#[must_use]
pub fn may_begin(head: &[u8]) -> bool {
    let starts = |list: &[&[u8]]| list.iter().any(|start| starts_ignoring_case(head, start));
    matches!(head.first(), Some(byte) if byte.is_ascii_alphabetic())
        && (starts(COMMANDS) || starts(HEADERS))
}

/// Adds the wanted fields. False if it is nothing of a mail.
pub fn extract(segment: &[u8], wanted: Kinds, fields: &mut Fields) -> bool {
    if !may_begin(segment) {
        return false;
    }
    for line in Lines::new(segment) {
        if let Some(argument) =
            command(line, b"mail", b"from").or_else(|| command(line, b"rcpt", b"to"))
        {
            if let (true, Some(address)) = (wanted.has(Kind::EmailAddress), address(argument)) {
                fields.push(Kind::EmailAddress, address);
            }
        } else if let Some((name, value)) = header(line)
            && wanted.has(Kind::EmailSubject)
            && name.eq_ignore_ascii_case(b"subject")
        {
            fields.push_unfolded(Kind::EmailSubject, value);
        }
    }
    true
}

/// What follows `MAIL FROM:`, whatever the case and the blanks.
fn command<'a>(line: &'a [u8], verb: &[u8], word: &[u8]) -> Option<&'a [u8]> {
    if !starts_ignoring_case(line, verb) {
        return None;
    }
    let rest = line[verb.len()..].trim_ascii_start();
    if !starts_ignoring_case(rest, word) {
        return None;
    }
    rest[word.len()..].trim_ascii_start().strip_prefix(b":")
}

/// The address in the argument of a command.
#[must_use]
pub fn address(argument: &[u8]) -> Option<&[u8]> {
    if let Some(open) = memchr(b'<', argument) {
        let inside = &argument[open + 1..];
        let inside = inside[..memchr(b'>', inside)?].trim_ascii();
        return (!inside.is_empty()).then_some(inside);
    }
    let word = argument
        .split(u8::is_ascii_whitespace)
        .find(|word| !word.is_empty())?;
    let word = word.strip_suffix(b">").unwrap_or(word);
    memchr(b'@', word).map(|_| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_commands_are_read_as_the_table_says() {
        for (argument, expected) in [
            ("<user@example.com>", "user@example.com"),
            ("\"John Doe\" <john@example.com>", "john@example.com"),
            ("  < user@example.com >  ", "user@example.com"),
            ("user@example.com SIZE=12345", "user@example.com"),
            ("", ""),
            ("invalid", ""),
            ("<alice@example.com> SIZE=1024", "alice@example.com"),
        ] {
            assert_eq!(
                address(argument.as_bytes()).unwrap_or_default(),
                expected.as_bytes(),
                "{argument}"
            );
        }
    }

    #[test]
    fn a_segment_has_all_of_its_commands_and_its_subject() {
        let mut fields = Fields::default();
        let segment = b"mail from: a@b.c\r\nRCPT TO:<d@e.f>\r\nRcpt To:<g@h.i>\r\nDATA\r\n";
        assert!(extract(segment, Kinds::ALL, &mut fields));
        let mail =
            b"Received: by x\r\n\tat y\r\nSubject: top\r\n secret\r\nTo: x\r\n\r\nSubject: body";
        assert!(extract(mail, Kinds::ALL, &mut fields));
        let texts: Vec<_> = fields.iter().map(|(_, _, text)| text).collect();
        assert_eq!(texts, [&b"a@b.c"[..], b"d@e.f", b"g@h.i", b"top secret"]);
    }
}
