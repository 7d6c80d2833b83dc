//! What is told of a mail: the block `email`, details, and a line for people.

use lc_proto::details::Details;
use lc_proto::email::Email;

use super::mail::Mail;
use super::mime::{Body, Head};
use crate::session::Note;

/// Bytes of an address that are told.
const MOST_ADDRESS: usize = 512;
/// Bytes of all recipients of a mail that are told.
const MOST_RECIPIENTS: usize = 32 * 1024;
/// Bytes of a subject that are told.
const MOST_SUBJECT: usize = 4 * 1024;
/// Bytes of a preview that stand on every packet of a mail. The whole one stands on the packet that ends it.
pub const SHORT_PREVIEW: usize = 1024;

/// What is known of a mail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Letter {
    /// Envelope sender; of a mail that is fetched, From.
    pub sender: String,
    /// Envelope recipients; of a mail that is fetched, To and Cc.
    pub recipients: Vec<String>,
    /// Bytes of `recipients`.
    recipient_bytes: usize,
    /// The last subject.
    pub subject: String,
    /// Without brackets.
    pub message_id: String,
    /// From.
    pub from: Vec<String>,
    /// To and Cc.
    pub to: Vec<String>,
    /// Names of files.
    pub attachments: Vec<String>,
    /// How the body begins.
    pub preview: String,
    /// Bytes of the body; a line end counts as one.
    pub size: u64,
    /// Whether the preview is less than the body.
    pub is_truncated: bool,
}

impl Letter {
    /// Adds a recipient.
    pub fn put_recipient(&mut self, address: &[u8]) {
        let address = text(address, MOST_ADDRESS);
        if self.recipient_bytes + address.len() <= MOST_RECIPIENTS {
            self.recipient_bytes += address.len() + size_of::<String>();
            self.recipients.push(address);
        }
    }

    /// Sets the sender.
    pub fn set_sender(&mut self, address: &[u8]) {
        self.sender = text(address, MOST_ADDRESS);
    }

    /// Takes over what the head says.
    pub fn set_head(&mut self, head: Head) {
        if let Some(subject) = head.subjects.into_iter().next_back() {
            self.subject = text(subject.text.as_bytes(), MOST_SUBJECT);
        }
        self.message_id = text(head.message_id.as_bytes(), MOST_ADDRESS);
        (self.from, self.to) = (head.from, head.to);
    }

    /// Takes over how the body begins, of which `most` bytes are told.
    pub fn set_body(&mut self, mail: &Mail, body: Body, most: usize) {
        let main = body.main().unwrap_or_default();
        let lines = main.replace("\r\n", "\n");
        let start = lines.trim_start_matches('\n');
        let all = start.strip_suffix('\n').unwrap_or(start);
        self.preview = text(all.as_bytes(), most);
        self.is_truncated = mail.is_cut() || self.preview.len() < all.len();
        self.attachments = body.attachments;
        self.size = mail.size();
    }

    /// Appends the block, with `most` bytes of the preview.
    pub fn put_block(&self, out: &mut Vec<u8>, most: usize) {
        let preview = beginning(&self.preview, most);
        Email {
            mail_from: &self.sender,
            rcpt_to: &self.recipients,
            subject: &self.subject,
            message_id: &self.message_id,
            body_preview: preview,
            body_size: self.size,
            body_truncated: self.is_truncated || preview.len() < self.preview.len(),
        }
        .put(out);
    }

    /// Adds what stands on all packets.
    pub fn put(&self, notes: &mut Notes) {
        self.put_details(&mut notes.details);
        self.put_info(&mut notes.info);
        if *self != Self::default() {
            self.put_block(&mut notes.blocks, SHORT_PREVIEW);
        }
    }

    fn put_details(&self, details: &mut Details) {
        for (key, list) in [
            ("email.from", &self.from),
            ("email.to", &self.to),
            ("email.attachments", &self.attachments),
        ] {
            if !list.is_empty() {
                details.put(key, &list.join("\n"));
            }
        }
    }

    /// A line for people: who writes to whom, and about what. Empty if nothing is known.
    pub fn put_info(&self, out: &mut String) {
        let Self {
            sender,
            recipients,
            subject,
            ..
        } = self;
        if !sender.is_empty() || !recipients.is_empty() {
            *out += if sender.is_empty() { "<>" } else { sender };
        }
        if let Some((first, others)) = recipients.split_first() {
            *out += " -> ";
            *out += first;
            if !others.is_empty() {
                *out += &format!(" +{}", others.len());
            }
        }
        if !subject.is_empty() {
            *out += if out.is_empty() { "" } else { ": " };
            *out += subject;
        }
    }
}

/// Buffers for what is told.
#[derive(Debug, Default)]
pub struct Notes {
    /// Details.
    pub details: Details,
    /// Blocks.
    pub blocks: Vec<u8>,
    /// A line for people.
    pub info: String,
}

impl Notes {
    /// Clears the buffers.
    pub fn clear(&mut self) {
        self.details.clear();
        self.blocks.clear();
        self.info.clear();
    }

    /// What they hold.
    pub fn note(&self, protocol: &'static str) -> Note<'_> {
        Note {
            protocol,
            info: &self.info,
            details: self.details.encoded(),
            blocks: &self.blocks,
        }
    }
}

/// The beginning of what was said, as text.
pub fn text(bytes: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    beginning(&text, most).to_owned()
}

fn beginning(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}
