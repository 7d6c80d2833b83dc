//! What is told: whose bytes these are, what filters are compared with, notes.

use lc_proto::details::Details;

use super::session::{Deal, Known, Stage, Talk};
use crate::email::content::Group;
use crate::email::heard::Heard;
use crate::email::letter::Letter;
use crate::email::means::Judged;
use crate::email::reading::{Reading, tell_whole};
use crate::session::{Exchange, Tell};

/// The protocol's name.
const PROTOCOL: &str = "SMTP";
/// What was said in the bytes at hand, and not told yet.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Bytes before the offset are of the exchange.
    claim: Option<(Exchange, u64)>,
    pub(super) heard: Heard,
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
    pub(super) fn new(exchange: Exchange) -> Self {
        let mut judged = Judged::new(exchange);
        judged.fit.close(Group::Mailbox);
        Self {
            judged,
            stage: Stage::Before,
            letter: Letter::default(),
            reading: None,
            second: None,
            size: None,
            accepted: 0,
            is_answered: false,
            is_torn: false,
            is_news: true,
        }
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
            self.judged.fit.close(group);
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
        self.session.deal = Deal::new(self.tell.begin());
    }

    /// Reads what can be read of the mail now.
    pub(super) fn read(&mut self) {
        let Deal {
            reading: Some(reading),
            letter,
            judged,
            is_news,
            ..
        } = &mut self.session.deal
        else {
            return;
        };
        if reading.read(letter, judged, self.means, self.tell) {
            judged.fit.close(Group::Subject);
            *is_news = true;
        }
        if reading.has_body() {
            judged.fit.close(Group::Keywords);
        }
    }

    /// The mail is over, in the bytes before `end`.
    pub(super) fn mail_ends(&mut self, end: u64) {
        let deal = &mut self.session.deal;
        if let Some(reading) = deal.reading.take() {
            reading.finish(&mut deal.letter, &mut deal.judged, self.means, self.tell);
            tell_whole(
                &deal.letter,
                &deal.judged,
                &mut self.means.notes,
                end,
                self.tell,
            );
        }
        if deal.stage != Stage::Before {
            deal.stage = Stage::Over;
            deal.close_mail();
            deal.is_news = true;
        }
    }

    /// Nothing more will be said in this exchange.
    pub(super) fn close(&mut self) {
        self.session.deal.judged.fit.close_all();
        self.session.deal.stage = Stage::Over;
    }

    /// Tells what was said.
    pub(super) fn flush(&mut self) {
        let said = std::mem::take(&mut self.said);
        if let Some((exchange, end)) = said.claim {
            said.heard
                .tell(PROTOCOL, exchange, end, &mut self.means.notes, self.tell);
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
        let notes = &mut self.means.notes;
        notes.clear();
        self.session.known.put_details(&mut notes.details);
        if let Some(size) = deal.size {
            notes.details.put("email.size", &size.to_string());
        }
        deal.letter.put(notes);
        self.tell.about(deal.judged.exchange, notes.note(PROTOCOL));
    }

    /// Tells what is sure about the exchange.
    pub(super) fn judge(&mut self) {
        let deal = &mut self.session.deal;
        let has_head = deal.reading.as_ref().is_some_and(Reading::has_head);
        let is_compared = has_head || deal.stage == Stage::Over;
        let sure = deal
            .judged
            .sure(&self.means.content, is_compared, self.tell);
        if !sure.is_nothing() {
            self.tell_news();
            sure.tell(self.exchange(), self.tell);
        }
    }
}
