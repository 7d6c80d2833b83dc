//! `PacketMetadata.email` (field 11), encoded into a buffer that is used again.
//!
//! ```
//! use lc_proto::email::Email;
//! let mut blocks = Vec::new();
//! Email { mail_from: "alice@example.com", subject: "Hello", ..Email::default() }.put(&mut blocks);
//! ```

use crate::wire::{delimited_len, put_varint, scalar_field_len, string_field_len};

/// Tag of field 11 of `PacketMetadata`.
const EMAIL_TAG: u8 = 0x5a;

/// What is told of a mail. Empty texts are left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Email<'a> {
    /// Envelope sender.
    pub mail_from: &'a str,
    /// Envelope recipients.
    pub rcpt_to: &'a [String],
    /// Subject.
    pub subject: &'a str,
    /// Message-ID, without brackets.
    pub message_id: &'a str,
    /// The beginning of the body.
    pub body_preview: &'a str,
    /// Bytes of the body; what is beyond 2^31 - 1 is told as that.
    pub body_size: u64,
    /// Whether `body_preview` is less than the body.
    pub body_truncated: bool,
}

impl Email<'_> {
    /// Appends the field.
    pub fn put(&self, out: &mut Vec<u8>) {
        let size = self.body_size.min(i32::MAX as u64);
        let recipients: usize = self.rcpt_to.iter().map(|to| delimited_len(to.len())).sum();
        let texts = [
            self.mail_from,
            self.subject,
            self.message_id,
            self.body_preview,
        ];
        let texts: usize = texts.into_iter().map(string_field_len).sum();
        let numbers = scalar_field_len(size) + scalar_field_len(self.body_truncated.into());
        out.push(EMAIL_TAG);
        put_varint(out, recipients + texts + numbers);
        put_text(out, 0x0a, self.mail_from);
        for recipient in self.rcpt_to {
            out.push(0x12);
            put_varint(out, recipient.len());
            out.extend_from_slice(recipient.as_bytes());
        }
        put_text(out, 0x1a, self.subject);
        put_text(out, 0x22, self.message_id);
        put_text(out, 0x2a, self.body_preview);
        put_number(out, 0x30, size);
        put_number(out, 0x38, self.body_truncated.into());
    }
}

fn put_text(out: &mut Vec<u8>, tag: u8, text: &str) {
    if !text.is_empty() {
        out.push(tag);
        put_varint(out, text.len());
        out.extend_from_slice(text.as_bytes());
    }
}

fn put_number(out: &mut Vec<u8>, tag: u8, number: u64) {
    if number != 0 {
        out.push(tag);
        put_varint(out, number as usize);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::data::{EmailMetadata, PacketMetadata};

    proptest! {
        #[test]
        fn decodes_to_what_was_put(
            texts in prop::collection::vec(".{0,200}", 4),
            rcpt_to in prop::collection::vec(".{0,30}", 0..4),
            body_size in 0..=i32::MAX,
            body_truncated in any::<bool>(),
        ) {
            let expected = EmailMetadata {
                mail_from: texts[0].clone(),
                rcpt_to,
                subject: texts[1].clone(),
                message_id: texts[2].clone(),
                body_preview: texts[3].clone(),
                body_size,
                body_truncated,
            };
            let mut blocks = Vec::new();
            Email {
                mail_from: &expected.mail_from,
                rcpt_to: &expected.rcpt_to,
                subject: &expected.subject,
                message_id: &expected.message_id,
                body_preview: &expected.body_preview,
                body_size: body_size as u64,
                body_truncated,
            }
            .put(&mut blocks);
            let decoded = PacketMetadata::decode(&blocks[..]).unwrap();
            prop_assert_eq!(decoded.email, Some(expected));
        }
    }

    #[test]
    fn sizes_that_the_field_cannot_hold_are_the_largest() {
        let mut blocks = Vec::new();
        Email {
            body_size: 1 << 40,
            ..Email::default()
        }
        .put(&mut blocks);
        let decoded = PacketMetadata::decode(&blocks[..]).unwrap();
        assert_eq!(decoded.email.unwrap().body_size, i32::MAX);
    }
}
