//! What is told: whose bytes these are, what filters are compared with, notes.

use super::command::Verb;
use super::pairing::Asked;
use super::session::{Deal, Known, Stage, Talk};
use crate::email::content::Group;
use crate::email::letter::{Letter, SHORT_PREVIEW};
use crate::email::mail::Mail;
use crate::email::{KINDS, mime};
use crate::matcher::Kind;
use crate::session::{Content, Exchange, Tell};
use lc_proto::details::Details;

/// The protocol's name.
const PROTOCOL: &str = "SMTP";
/// Bytes of a list of commands or replies.
const MOST_LIST: usize = 256;

/// What was said in the bytes at hand, and not told yet.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Bytes before the offset are of the exchange.
    claim: Option<(Exchange, u64)>,
    commands: String,
    replies: String,
    answered: String,
}

impl Said {
    pub(super) fn put_command(&mut self, verb: Verb) {
        put(&mut self.commands, verb.name());
    }

    pub(super) fn put_reply(&mut self, code: u16) {
        put(&mut self.replies, &code.to_string());
    }

    pub(super) fn put_answered(&mut self, asked: Asked) {
        put(&mut self.answered, asked.name());
    }

    fn put_details(&self, details: &mut Details) {
        for (key, list) in [
            ("email.command", &self.commands),
            ("email.reply", &self.replies),
            ("email.reply_to", &self.answered),
        ] {
            if !list.is_empty() {
                details.put(key, list);
            }
        }
    }
}

fn put(list: &mut String, item: &str) {
    if list.len() + item.len() < MOST_LIST {
        *list += if list.is_empty() { "" } else { "," };
        *list += item;
    }
}

impl Known {
    fn put_details(&self, details: &mut Details) {
        for (key, value) in [
            ("email.client", &self.client[..]),
            ("email.banner", &self.banner),
            ("email.auth_method", &self.mechanism),
            ("email.auth_user", self.user.as_deref().unwrap_or_default()),
            ("email.starttls", self.starttls),
        ] {
            if !value.is_empty() {
                details.put(key, value);
            }
        }
    }
}

impl Deal {
    /// Nothing is known of it.
    pub(super) fn new() -> Self {
        let mut deal = Self {
            is_news: true,
            ..Self::default()
        };
        deal.fit.close(Group::Mailbox);
        deal
    }

    /// Nothing more will be said about its mail.
    pub(super) fn close_mail(&mut self) {
        for group in [
            Group::Sender,
            Group::Recipient,
            Group::Address,
            Group::Subject,
            Group::Keywords,
        ] {
            self.fit.close(group);
        }
    }
}

impl<T: Tell> Talk<'_, T> {
    /// The bytes before `end` are of `exchange`.
    pub(super) fn claim(&mut self, exchange: Exchange, end: u64) {
        if self
            .said
            .claim
            .is_some_and(|(claimed, _)| claimed != exchange)
        {
            self.flush();
        }
        self.said.claim = Some((exchange, end));
    }

    /// A mail with another sender begins.
    pub(super) fn begin_exchange(&mut self) {
        self.close();
        self.flush();
        self.session.exchange = self.tell.begin();
        self.session.deal = Deal::new();
    }

    /// Filters are compared with `text`.
    pub(super) fn compare(&mut self, kind: Kind, text: &[u8]) {
        if self.tell.wanted().has(kind) && !self.session.deal.is_settled {
            self.tell.compare(self.session.exchange, kind, text);
        }
    }

    /// The operator's patterns are compared with `text`.
    pub(super) fn compare_content(&mut self, group: Group, text: &[u8]) {
        let fit = &mut self.session.deal.fit;
        self.smtp.content.compare(fit, group, text);
    }

    /// Reads the head of the mail as soon as it has ended, and the body as soon as no more of it is kept.
    pub(super) fn read_head(&mut self) {
        let Some(mail) = self.session.deal.mail.take() else {
            return;
        };
        if mail.has_head() && !self.session.deal.has_head {
            self.take_head(mime::head(mail.head()));
        }
        if mail.is_cut() && !self.session.deal.has_body {
            self.take_body(&mail);
        }
        self.session.deal.mail = Some(mail);
    }

    fn take_head(&mut self, head: mime::Head) {
        self.session.deal.has_head = true;
        for subject in &head.subjects {
            self.compare_subject(subject.text.as_bytes());
            if subject.raw != subject.text.as_bytes() {
                self.compare_subject(&subject.raw);
            }
        }
        let deal = &mut self.session.deal;
        deal.letter.set_head(head);
        deal.fit.close(Group::Subject);
        if self.smtp.body == 0 {
            deal.fit.close(Group::Keywords);
        }
        deal.is_news = true;
    }

    fn compare_subject(&mut self, text: &[u8]) {
        self.compare(Kind::EmailSubject, text);
        self.compare_content(Group::Subject, text);
        self.compare_content(Group::Keywords, text);
    }

    fn take_body(&mut self, mail: &Mail) {
        self.session.deal.has_body = true;
        let body = mime::body(mail.head(), mail.body());
        if self.smtp.content.wants(Group::Keywords) {
            self.compare_content(Group::Keywords, mail.body());
            for text in &body.texts {
                self.compare_content(Group::Keywords, text.text.as_bytes());
            }
        }
        let deal = &mut self.session.deal;
        deal.letter.set_body(mail, body, self.smtp.body);
        deal.fit.close(Group::Keywords);
    }

    /// The mail is over, in the bytes before `end`.
    pub(super) fn mail_ends(&mut self, end: u64) {
        if let Some(mail) = self.session.deal.mail.take() {
            if !self.session.deal.has_head {
                self.take_head(mime::head(mail.head()));
            }
            if !self.session.deal.has_body {
                self.take_body(&mail);
            }
            self.session.deal.letter.size = mail.size();
            self.tell_whole(end);
        }
        let deal = &mut self.session.deal;
        if deal.stage != Stage::Before {
            deal.stage = Stage::Over;
            deal.close_mail();
            deal.is_news = true;
        }
    }

    /// Tells the whole preview where the mail ends, if that is more than what stands on all packets.
    fn tell_whole(&mut self, end: u64) {
        let (letter, notes) = (&self.session.deal.letter, &mut self.smtp.notes);
        if letter.preview.len() > SHORT_PREVIEW {
            notes.clear();
            letter.put_block(&mut notes.blocks, letter.preview.len());
            let offset = end.saturating_sub(1);
            self.tell
                .note(self.session.exchange, offset, notes.note(""));
        }
    }

    /// Nothing more will be said in this exchange.
    pub(super) fn close(&mut self) {
        self.session.deal.fit.close_all();
        self.session.deal.stage = Stage::Over;
    }

    /// Tells what was said.
    pub(super) fn flush(&mut self) {
        let said = std::mem::take(&mut self.said);
        let notes = &mut self.smtp.notes;
        if let Some((exchange, end)) = said.claim {
            notes.clear();
            said.put_details(&mut notes.details);
            if !notes.details.is_empty() {
                self.tell
                    .note(exchange, end.saturating_sub(1), notes.note(PROTOCOL));
            }
        }
        self.tell_news();
        if let Some((exchange, end)) = said.claim {
            self.tell.belongs(Some(exchange), end);
        }
        self.judge();
    }

    fn tell_news(&mut self) {
        let deal = &mut self.session.deal;
        if !std::mem::take(&mut deal.is_news) {
            return;
        }
        let notes = &mut self.smtp.notes;
        notes.clear();
        self.session.known.put_details(&mut notes.details);
        if let Some(size) = deal.size {
            notes.details.put("email.size", &size.to_string());
        }
        deal.letter.put_details(&mut notes.details);
        deal.letter.put_info(&mut notes.info);
        if deal.letter != Letter::default() {
            deal.letter.put_block(&mut notes.blocks, SHORT_PREVIEW);
        }
        self.tell.about(self.session.exchange, notes.note(PROTOCOL));
    }

    /// Tells what is sure about the exchange.
    pub(super) fn judge(&mut self) {
        let (deal, content) = (&mut self.session.deal, &self.smtp.content);
        if deal.is_settled {
            return;
        }
        if deal.content.is_none() && !content.is_empty() {
            deal.content = content.verdict(deal.fit);
            if let Some(content) = deal.content {
                self.tell_news();
                self.tell.content(self.session.exchange, content);
            }
        }
        let deal = &self.session.deal;
        let is_compared =
            deal.has_head || deal.stage == Stage::Over || !self.tell.wanted().has_any(KINDS);
        let is_settled = match deal.content {
            Some(Content::Fails) => true,
            Some(Content::Fits) => is_compared,
            None => is_compared && self.smtp.content.is_empty(),
        };
        if is_settled {
            self.tell_news();
            self.session.deal.is_settled = true;
            self.tell.settle(self.session.exchange);
        }
    }
}
