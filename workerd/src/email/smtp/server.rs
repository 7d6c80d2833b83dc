//! What the server says.

use super::command::Verb;
use super::pairing::Asked;
use super::reply::Reply;
use super::session::{Phase, Stage, Talk};
use crate::email::letter::text;
use crate::session::{Course, Tell};

/// Bytes of the greeting that are told.
const MOST_BANNER: usize = 512;

impl<T: Tell> Talk<'_, T> {
    /// A line; `end` is behind it.
    pub(super) fn server_line(&mut self, line: &[u8], end: u64) -> Course {
        let exchange = self.session.pairing.next().unwrap_or(self.exchange());
        self.claim(exchange, end);
        let Some(reply) = Reply::of(line) else {
            return Course::Follow;
        };
        let known = &mut self.session.known;
        if reply.offers_tls() && known.starttls.is_empty() {
            known.starttls = "offered";
            self.session.deal.is_news = true;
        }
        if reply.goes_on {
            return Course::Follow;
        }
        self.said.heard.put_reply(&reply.code.to_string());
        if self.session.sides.greets() {
            self.session.known.banner = text(reply.text, MOST_BANNER);
            self.session.deal.is_news = true;
            return Course::Follow;
        }
        match self.session.pairing.answer(reply.code) {
            Some(asked) => {
                self.said.heard.put_answered(asked.name());
                self.answer(asked, reply.code, end)
            }
            None => self.unexpected(&reply, end),
        }
    }

    fn answer(&mut self, asked: Asked, code: u16, end: u64) -> Course {
        let deal = &mut self.session.deal;
        let is_positive = code < 400;
        match asked {
            Asked::Command(Verb::StartTls) if code == 220 => return self.becomes(end),
            Asked::Command(Verb::Mail) if !is_positive && deal.stage == Stage::Open => {
                self.give_up()
            }
            Asked::Command(Verb::Rcpt) if is_positive => deal.accepted += 1,
            Asked::SecondMail => {
                if let Some(sender) = deal.second.take().filter(|_| is_positive) {
                    deal.letter.set_sender(&sender);
                    deal.is_news = true;
                }
            }
            Asked::Command(Verb::Data) => match self.session.phase {
                Phase::Waits if code == 354 => self.begin_text(),
                Phase::Waits => self.session.phase = Phase::Commands,
                // It did not wait, and was refused.
                Phase::Text(_) if code != 354 => {
                    self.session.phase = Phase::Commands;
                    self.give_up();
                }
                _ => {}
            },
            Asked::Command(Verb::Auth) if code != 334 => self.session.phase = Phase::Commands,
            _ => {}
        }
        Course::Follow
    }

    /// A reply to something that was not seen.
    fn unexpected(&mut self, reply: &Reply<'_>, end: u64) -> Course {
        let deal = &mut self.session.deal;
        match &self.session.phase {
            Phase::Text(dots) if deal.is_torn || dots.is_lone() => self.tear(end),
            Phase::Text(_) => deal.is_answered = true,
            Phase::Commands | Phase::Waits if reply.code == 354 => self.begin_text(),
            Phase::Secrets if reply.code != 334 => self.session.phase = Phase::Commands,
            Phase::Commands if reply.code == 220 => {
                let is_asked = self.session.known.starttls == "requested";
                if is_asked || reply.announces_tls() {
                    return self.becomes(end);
                }
            }
            _ => {}
        }
        Course::Follow
    }

    /// What follows is TLS, of which nothing can be told here.
    fn becomes(&mut self, end: u64) -> Course {
        self.session.known.starttls = "started";
        self.session.deal.is_news = true;
        self.close();
        Course::Becomes(end, self.exchange())
    }
}
