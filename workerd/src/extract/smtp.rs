//! Addresses in SMTP commands (RFC 5321), and the subject in the head of a mail (RFC 5322), of one segment.
//!
//! All commands of a segment count (pipelining, RFC 2920), and addresses without brackets.

use super::lines::{Lines, header, starts_ignoring_case};
use crate::email::is_mail_field;
use crate::email::smtp::command::{Command, Verb};
use crate::matcher::{Fields, Kind, Kinds};

pub use crate::email::KINDS;

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

/// Whether commands, or a mail, may start so.
#[must_use]
pub fn may_begin(head: &[u8]) -> bool {
    let is_command = |start: &&[u8]| starts_ignoring_case(head, start);
    matches!(head.first(), Some(byte) if byte.is_ascii_alphabetic())
        && (COMMANDS.iter().any(is_command) || is_mail_field(head))
}

/// Adds the wanted fields. False if it is nothing of a mail.
pub fn extract(segment: &[u8], wanted: Kinds, fields: &mut Fields) -> bool {
    if !may_begin(segment) {
        return false;
    }
    for line in Lines::new(segment) {
        let command =
            Command::of(line).filter(|command| matches!(command.verb, Verb::Mail | Verb::Rcpt));
        if let Some(command) = command {
            if let (true, Some(address)) = (wanted.has(Kind::EmailAddress), command.address()) {
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

#[cfg(test)]
mod tests {
    use super::*;

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
