//! What the client says.

use shm_layout::counters::WorkerCounter as Counter;

use super::command::{Command, Verb};
use super::pairing::Asked;
use super::session::{Phase, Stage, Talk};
use crate::email::content::Group;
use crate::email::dots::Dots;
use crate::email::letter::text;
use crate::email::reading::Reading;
use crate::email::{is_mail_field, sasl};
use crate::session::Tell;

/// Bytes of what the client calls itself that are told.
const MOST_NAME: usize = 255;

impl<T: Tell> Talk<'_, T> {
    /// Takes in the text of a mail. False if the client is not in one.
    pub(super) fn text(&mut self, rest: &mut &[u8], place: impl Fn(&[u8]) -> u64) -> bool {
        let (reading, means) = (&mut self.session.deal.reading, &*self.means);
        let mut push = |bytes: &[u8]| {
            if let Some(reading) = reading {
                reading.push(bytes, means);
            }
        };
        let steps = &mut self.session.steps;
        let has_ended = match &mut self.session.phase {
            Phase::Text(dots) => {
                let before = dots.number();
                let behind = dots.take(rest, push);
                *rest = behind.unwrap_or_default();
                *steps += u64::from(behind.is_some() || dots.number() != before);
                behind.is_some()
            }
            Phase::Chunk { left, .. } => {
                let len = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                let (chunk, behind) = rest.split_at(len);
                push(chunk);
                *left -= len as u64;
                *steps += 1;
                *rest = behind;
                *left == 0
            }
            _ => return false,
        };
        let end = place(rest);
        self.claim(self.exchange(), end);
        self.read();
        if has_ended {
            self.text_ends(end);
        }
        true
    }

    /// A line that is not of a text; `end` is behind it.
    pub(super) fn client_line(&mut self, line: &[u8], end: u64) {
        let command = Command::of(line);
        match self.session.phase {
            Phase::Secrets if self.session.sides.hears_server() || command.is_none() => {
                self.response(line);
                self.claim(self.exchange(), end);
                return;
            }
            Phase::Waits if !command.is_some_and(|command| command.is_for_sure()) => {
                self.begin_text();
                self.text_line(line, end);
                return;
            }
            Phase::Secrets | Phase::Waits => self.session.phase = Phase::Commands,
            _ => {}
        }
        match command {
            Some(command) => self.command(command, end),
            None if self.session.sides.is_joined && is_mail_field(line) => {
                self.begin_text();
                self.text_line(line, end);
            }
            None if self.session.sides.is_joined => {
                if line == b"." {
                    self.ask(Asked::Text { replies: 1 });
                    self.session.sides.is_joined = false;
                }
                self.claim(self.exchange(), end);
            }
            None => {
                self.tell.count(Counter::MailUnknown);
                self.ask(Asked::Unknown);
                self.claim(self.exchange(), end);
            }
        }
    }

    fn command(&mut self, command: Command<'_>, end: u64) {
        self.tell.count(Counter::MailCommands);
        self.session.sides.is_joined = false;
        let verb = command.verb;
        if verb == Verb::Mail && self.session.deal.stage == Stage::Over {
            self.begin_exchange();
        }
        self.claim(self.exchange(), end);
        self.said.heard.put_command(verb.name());
        let fit = &mut self.session.deal.judged.fit;
        self.means
            .content
            .compare(fit, Group::Command, verb.name().as_bytes());
        match verb {
            Verb::Mail => return self.mail(command),
            Verb::Rcpt => self.recipient(command),
            Verb::Data => self.session.phase = Phase::Waits,
            Verb::Bdat => return self.chunk(command, end),
            Verb::Helo | Verb::Ehlo | Verb::Lhlo => {
                self.give_up();
                self.session.is_lmtp = verb == Verb::Lhlo;
                self.session.known.client = text(command.argument, MOST_NAME);
                self.session.deal.is_news = true;
            }
            Verb::Rset => self.give_up(),
            Verb::Auth => self.authenticate(command),
            Verb::StartTls => {
                self.session.known.starttls = "requested";
                self.session.deal.is_news = true;
            }
            _ => {}
        }
        self.ask(Asked::Command(verb));
    }

    fn mail(&mut self, command: Command<'_>) {
        let deal = &mut self.session.deal;
        let address = command.address();
        let asked = if deal.stage == Stage::Before {
            deal.stage = Stage::Open;
            deal.size = command.size();
            deal.letter.set_sender(address.unwrap_or_default());
            deal.is_news = true;
            Asked::Command(Verb::Mail)
        } else {
            deal.second = Some(address.unwrap_or_default().to_vec());
            Asked::SecondMail
        };
        self.compare_address(Group::Sender, address);
        self.ask(asked);
    }

    fn recipient(&mut self, command: Command<'_>) {
        if self.session.deal.stage == Stage::Over {
            // There is no mail that it could be for.
            return;
        }
        let address = command.address();
        if let Some(address) = address {
            self.session.deal.letter.put_recipient(address);
            self.session.deal.is_news = true;
        }
        self.compare_address(Group::Recipient, address);
    }

    fn compare_address(&mut self, group: Group, address: Option<&[u8]>) {
        if let Some(address) = address {
            let (judged, content) = (&mut self.session.deal.judged, &mut self.means.content);
            judged.compare_address(group, address, content, self.tell);
        }
    }

    fn authenticate(&mut self, command: Command<'_>) {
        let Some((mechanism, initial)) = command.mechanism() else {
            return;
        };
        let known = &mut self.session.known;
        known.mechanism.clear();
        if sasl::is_mechanism(mechanism) {
            known.mechanism = text(mechanism, sasl::MOST_NAME).to_uppercase();
        }
        known.user = None;
        known.has_responded = false;
        self.session.deal.is_news = true;
        self.session.phase = Phase::Secrets;
        if let Some(initial) = initial {
            self.response(initial);
        }
    }

    /// A response of an authentication: of the first one, who it is.
    fn response(&mut self, response: &[u8]) {
        let known = &mut self.session.known;
        if !known.has_responded {
            known.has_responded = true;
            known.user = sasl::user(&known.mechanism, response);
            self.session.deal.is_news = true;
        }
    }

    fn chunk(&mut self, command: Command<'_>, end: u64) {
        let Some((left, is_last)) = command.chunk() else {
            return self.ask(Asked::Command(Verb::Bdat));
        };
        self.begin_mail();
        self.session.phase = Phase::Chunk { left, is_last };
        if left == 0 {
            self.text_ends(end);
        }
    }

    /// The text begins.
    pub(super) fn begin_text(&mut self) {
        self.session.sides.is_joined = false;
        self.begin_mail();
        let mut dots = Dots::default();
        let lines = &mut self.session.sides.lines[self.session.sides.client as usize];
        let (reading, means) = (&mut self.session.deal.reading, &*self.means);
        // A line that has begun; it has no end.
        dots.take(lines.begun(), |bytes| {
            if let Some(reading) = reading {
                reading.push(bytes, means);
            }
        });
        lines.clear();
        self.session.phase = Phase::Text(dots);
    }

    fn begin_mail(&mut self) {
        let deal = &mut self.session.deal;
        if deal.stage < Stage::Text {
            deal.stage = Stage::Text;
            deal.reading = Some(Reading::in_envelope(self.means));
            deal.is_news = true;
            for group in [Group::Sender, Group::Recipient, Group::Address] {
                deal.judged.fit.close(group);
            }
        }
    }

    /// A line of the text that was taken for a command.
    fn text_line(&mut self, line: &[u8], end: u64) {
        for mut bytes in [line, b"\r\n"] {
            while !bytes.is_empty() && self.text(&mut bytes, |_| end) {}
        }
    }

    fn text_ends(&mut self, end: u64) {
        let is_last = !matches!(self.session.phase, Phase::Chunk { is_last: false, .. });
        self.session.phase = Phase::Commands;
        if !is_last {
            return self.ask(Asked::Command(Verb::Bdat));
        }
        let replies = if self.session.is_lmtp {
            self.session.deal.accepted.max(1)
        } else {
            1
        };
        self.ask(Asked::Text { replies });
        self.mail_ends(end);
    }

    /// Bytes of the client are missing.
    pub(super) fn text_gap(&mut self, offset: u64, len: Option<u64>) {
        let deal = &mut self.session.deal;
        match (&mut self.session.phase, len) {
            (Phase::Text(dots), _) => {
                *dots = Dots::default();
                deal.is_torn = true;
                if let Some(reading) = &mut deal.reading {
                    reading.skip(len);
                }
                if deal.is_answered {
                    self.tear(offset);
                }
            }
            (Phase::Chunk { left, .. }, Some(len)) if len <= *left => {
                *left -= len;
                let is_over = *left == 0;
                if let Some(reading) = &mut deal.reading {
                    reading.skip(Some(len));
                }
                if is_over {
                    self.text_ends(offset);
                }
            }
            (Phase::Chunk { .. }, _) => {
                self.session.pairing.lose();
                self.tear(offset);
            }
            _ => self.session.pairing.lose(),
        }
    }

    /// The text is over, though its end was not seen.
    pub(super) fn tear(&mut self, end: u64) {
        self.session.phase = Phase::Commands;
        self.mail_ends(end);
    }

    /// The mail is given up before its text.
    pub(super) fn give_up(&mut self) {
        let deal = &mut self.session.deal;
        if matches!(deal.stage, Stage::Open | Stage::Text) {
            deal.stage = Stage::Over;
            deal.reading = None;
            deal.close_mail();
        }
    }

    pub(super) fn ask(&mut self, asked: Asked) {
        self.session.pairing.ask(asked, self.exchange());
    }
}
