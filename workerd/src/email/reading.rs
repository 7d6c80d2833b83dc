//! Reads a mail while it passes: its head as soon as that has ended, its body as soon as no more of it is kept.

use super::content::Group;
use super::letter::{Letter, Notes, SHORT_PREVIEW};
use super::mail::Mail;
use super::means::{Judged, Means};
use super::mime::{self, Head};
use crate::matcher::Kind;
use crate::session::Tell;

/// A mail that passes.
#[derive(Debug)]
pub struct Reading {
    mail: Mail,
    has_head: bool,
    has_body: bool,
    /// Whether sender and recipients are those of the head, as nothing else names them.
    by_head: bool,
}

impl Reading {
    /// A mail whose envelope is known otherwise.
    pub fn in_envelope(means: &Means) -> Self {
        Self {
            mail: Mail::new(&means.room),
            has_head: false,
            has_body: false,
            by_head: false,
        }
    }

    /// A mail that has no envelope.
    pub fn bare(means: &Means) -> Self {
        Self {
            by_head: true,
            ..Self::in_envelope(means)
        }
    }

    /// The body of a mail, without its head.
    pub fn body(means: &Means) -> Self {
        let mut reading = Self::in_envelope(means);
        reading.has_head = true;
        reading.mail.push(b"\r\n", 0);
        reading
    }

    /// The next bytes of it.
    pub fn push(&mut self, bytes: &[u8], means: &Means) {
        self.mail.push(bytes, means.body);
    }

    /// Bytes are missing.
    pub fn skip(&mut self, len: Option<u64>) {
        self.mail.skip(len);
    }

    /// Whether its head has been read.
    pub fn has_head(&self) -> bool {
        self.has_head
    }

    /// Whether nothing more of its body will be read.
    pub fn has_body(&self) -> bool {
        self.has_body
    }

    /// Reads what can be read now. Whether there is news in the letter.
    pub fn read(
        &mut self,
        letter: &mut Letter,
        judged: &mut Judged,
        means: &mut Means,
        tell: &mut impl Tell,
    ) -> bool {
        let is_news = self.mail.has_head() && !self.has_head;
        if is_news {
            self.take_head(letter, judged, means, tell);
        }
        let is_cut = self.mail.is_cut() || self.has_head && means.body == 0;
        if is_cut && !self.has_body {
            self.take_body(letter, judged, means);
        }
        is_news
    }

    /// Reads the rest: nothing more comes.
    pub fn finish(
        mut self,
        letter: &mut Letter,
        judged: &mut Judged,
        means: &mut Means,
        tell: &mut impl Tell,
    ) {
        if !self.has_head {
            self.take_head(letter, judged, means, tell);
        }
        if !self.has_body {
            self.take_body(letter, judged, means);
        }
        letter.size = self.mail.size();
        letter.is_truncated |= self.mail.is_cut();
    }

    fn take_head(
        &mut self,
        letter: &mut Letter,
        judged: &mut Judged,
        means: &mut Means,
        tell: &mut impl Tell,
    ) {
        self.has_head = true;
        let head = mime::head(self.mail.head());
        for subject in &head.subjects {
            compare_subject(subject.text.as_bytes(), judged, means, tell);
            if subject.raw != subject.text.as_bytes() {
                compare_subject(&subject.raw, judged, means, tell);
            }
        }
        if self.by_head {
            take_addresses(&head, letter, judged, means, tell);
        }
        letter.set_head(head);
    }

    fn take_body(&mut self, letter: &mut Letter, judged: &mut Judged, means: &mut Means) {
        self.has_body = true;
        let body = mime::body(self.mail.head(), self.mail.body());
        if means.content.wants(Group::Keywords) {
            let mut compare = |text| {
                means
                    .content
                    .compare(&mut judged.fit, Group::Keywords, text)
            };
            compare(self.mail.body());
            body.texts
                .iter()
                .for_each(|text| compare(text.text.as_bytes()));
        }
        letter.set_body(&self.mail, body, means.body);
    }
}

/// Filters and patterns are compared with a subject.
pub fn compare_subject(text: &[u8], judged: &mut Judged, means: &mut Means, tell: &mut impl Tell) {
    judged.compare(Kind::EmailSubject, text, tell);
    for group in [Group::Subject, Group::Keywords] {
        means.content.compare(&mut judged.fit, group, text);
    }
}

/// Takes sender and recipients from a head.
pub fn take_addresses(
    head: &Head,
    letter: &mut Letter,
    judged: &mut Judged,
    means: &mut Means,
    tell: &mut impl Tell,
) {
    for sender in &head.from {
        judged.compare_address(Group::Sender, sender.as_bytes(), &mut means.content, tell);
    }
    if let Some(sender) = head.from.first() {
        letter.set_sender(sender.as_bytes());
    }
    for recipient in &head.to {
        letter.put_recipient(recipient.as_bytes());
        judged.compare_address(
            Group::Recipient,
            recipient.as_bytes(),
            &mut means.content,
            tell,
        );
    }
}

/// Tells the whole preview on the packet that carries the byte before `end`, if it is more than what stands on all packets.
pub fn tell_whole(
    letter: &Letter,
    judged: &Judged,
    notes: &mut Notes,
    end: u64,
    tell: &mut impl Tell,
) {
    if letter.preview.len() > SHORT_PREVIEW {
        notes.clear();
        letter.put_block(&mut notes.blocks, letter.preview.len());
        tell.note(judged.exchange, end.saturating_sub(1), notes.note(""));
    }
}
