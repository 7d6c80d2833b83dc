//! Follows POP3 sessions.

use lc_proto::details::Details;
use shm_layout::counters::WorkerCounter as Counter;

use super::command::Command;
use super::reply::{Listed, Reply, Status};
use crate::email::content::Group;
use crate::email::dots::Dots;
use crate::email::follow::{Conversation, Follower, HANDSHAKE};
use crate::email::heard::Heard;
use crate::email::letter::{Letter, text};
use crate::email::lines::Lines;
use crate::email::means::{Judged, Means};
use crate::email::open::Open;
use crate::email::reading::{Reading, tell_whole};
use crate::email::sides::Sides;
use crate::email::{is_mail_field, sasl};
use crate::flows::Direction;
use crate::reassembly::Event;
use crate::session::{At, Course, Exchange, Tell};

const PROTOCOL: &str = "POP3";
/// Bytes of what the server and the user call themselves that are told.
const MOST_NAME: usize = 256;

/// POP3, as one worker follows it.
pub type Pop3 = Follower<Session>;

/// A connection.
#[derive(Debug)]
pub struct Session {
    sides: Sides,
    open: Open<Asked>,
    /// Whether the client's lines are responses of an authentication.
    has_secrets: bool,
    /// What the server says next.
    phase: Phase,
    known: Known,
    judged: Judged,
    letter: Letter,
    /// Whether nothing more will be said.
    is_over: bool,
    is_news: bool,
}

/// What the server says next.
#[derive(Debug)]
enum Phase {
    /// The first line of a reply.
    Reply,
    /// Its other lines.
    List,
    /// A mail.
    Mail(Dots, Box<Reading>),
}

/// A command that waits for its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    verb: &'static str,
    message: Option<u32>,
    has_argument: bool,
}

/// What is known of the connection.
#[derive(Debug, Default)]
struct Known {
    banner: String,
    method: String,
    user: String,
    has_responded: bool,
    starttls: &'static str,
    /// The mail that was asked for last.
    message: Option<u32>,
    /// The name that the server gives it.
    uid: String,
    /// Mails in the mailbox, and their bytes.
    totals: Option<(u32, u64)>,
}

impl Conversation for Session {
    fn begin(exchange: Exchange) -> Self {
        let mut judged = Judged::new(exchange);
        judged.fit.close(Group::Mailbox);
        Self {
            sides: Sides::default(),
            open: Open::default(),
            has_secrets: false,
            phase: Phase::Reply,
            known: Known::default(),
            judged,
            letter: Letter::default(),
            is_over: false,
            is_news: true,
        }
    }

    fn hear(
        &mut self,
        at: &At,
        event: Event<'_>,
        means: &mut Means,
        tell: &mut impl Tell,
    ) -> Course {
        let mut talk = Talk {
            means,
            session: self,
            tell,
            direction: at.direction,
            heard: Heard::default(),
            claimed: None,
        };
        match event {
            Event::Data { offset, bytes } => talk.data(offset, bytes),
            Event::Gap { offset, len } => talk.gap(offset, len),
            Event::End { offset, .. } => talk.end(offset),
        }
    }
}

impl Asked {
    /// Whether the reply goes on behind its first line, up to a dot.
    fn has_lines(self) -> bool {
        match self.verb {
            "CAPA" => true,
            "LIST" | "UIDL" | "AUTH" | "LANG" => !self.has_argument,
            _ => false,
        }
    }

    fn has_mail(self) -> bool {
        matches!(self.verb, "RETR" | "TOP")
    }
}

impl Known {
    fn put_details(&self, details: &mut Details) {
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        let totals = self.totals;
        for (key, value) in [
            ("email.banner", &self.banner[..]),
            ("email.auth_method", &self.method),
            ("email.auth_user", &self.user),
            ("email.starttls", self.starttls),
            (
                "email.message",
                &number(self.message.map(u64::from)).unwrap_or_default(),
            ),
            ("email.uid", &self.uid),
            (
                "email.messages",
                &number(totals.map(|(mails, _)| mails.into())).unwrap_or_default(),
            ),
            (
                "email.total_size",
                &number(totals.map(|(_, bytes)| bytes)).unwrap_or_default(),
            ),
        ] {
            if !value.is_empty() {
                details.put(key, value);
            }
        }
    }
}

/// A session while something happens in it.
struct Talk<'a, T> {
    means: &'a mut Means,
    session: &'a mut Session,
    tell: &'a mut T,
    direction: Direction,
    heard: Heard,
    /// All before this is of the connection.
    claimed: Option<u64>,
}

impl<T: Tell> Talk<'_, T> {
    fn data(&mut self, offset: u64, bytes: &[u8]) -> Course {
        let side = self.direction as usize;
        let mut lines = std::mem::take(&mut self.session.sides.lines[side]);
        if self.session.sides.speak(self.direction) {
            self.session.open.turn();
        }
        let (mut rest, mut course) = (bytes, Course::Follow);
        let place = |rest: &[u8]| offset + (bytes.len() - rest.len()) as u64;
        while !rest.is_empty() && course == Course::Follow {
            self.judge();
            if !self.is_client() && self.mail(&mut rest, place) {
                continue;
            }
            if self.is_tls(&lines, rest) {
                course = Course::Becomes(place(rest), self.session.judged.exchange);
            } else if let Some(line) = lines.next(&mut rest, &self.means.room) {
                course = self.line(line, place(rest));
            }
        }
        self.session.sides.lines[side] = lines;
        // All of a connection is one exchange: nothing has to wait.
        self.claimed = Some(match course {
            Course::Follow => offset + bytes.len() as u64,
            _ => place(rest),
        });
        self.flush();
        course
    }

    fn gap(&mut self, offset: u64, len: Option<u64>) -> Course {
        self.session.sides.gap(self.direction, offset, len);
        let is_client = self.is_client();
        match &mut self.session.phase {
            Phase::Mail(dots, reading) if !is_client => {
                *dots = Dots::default();
                reading.skip(len);
            }
            _ => {
                self.session.open.lose();
                if !is_client {
                    self.session.phase = Phase::Reply;
                }
            }
        }
        self.flush();
        Course::Follow
    }

    fn end(&mut self, offset: u64) -> Course {
        if !self.is_client() {
            self.mail_ends(offset);
        }
        if self.session.sides.end(self.direction) {
            self.close();
        }
        self.claimed = Some(offset);
        self.flush();
        Course::Follow
    }

    fn is_client(&self) -> bool {
        self.direction == self.session.sides.client
    }

    fn is_tls(&self, lines: &Lines, rest: &[u8]) -> bool {
        self.is_client()
            && lines.begun().is_empty()
            && rest.first() == Some(&HANDSHAKE)
            && self.session.known.starttls == "requested"
    }

    fn line(&mut self, line: &[u8], end: u64) -> Course {
        let says_client = Command::of(line).is_some_and(|command| command.verb.is_some());
        let says_server = Reply::of(line).is_some();
        let sides = &mut self.session.sides;
        if sides.is_foreign(self.direction, says_client, says_server) {
            return Course::Foreign;
        }
        if self.is_client() {
            self.client_line(line);
            return Course::Follow;
        }
        self.server_line(line, end)
    }

    fn client_line(&mut self, line: &[u8]) {
        let command = Command::of(line);
        let verb = command.and_then(|command| command.verb);
        if self.session.has_secrets {
            if self.session.sides.hears_server() || verb.is_none() {
                return self.response(line);
            }
            self.session.has_secrets = false;
        }
        let Some(command) = command else {
            self.tell.count(Counter::MailUnknown);
            return self.ask("", None, false);
        };
        let Some(verb) = verb else {
            self.tell.count(Counter::MailUnknown);
            return self.ask("unknown", None, false);
        };
        self.tell.count(Counter::MailCommands);
        self.session.sides.is_joined = false;
        self.heard.put_command(verb);
        let fit = &mut self.session.judged.fit;
        self.means
            .content
            .compare(fit, Group::Command, verb.as_bytes());
        match verb {
            "USER" => self.user(command.name(), "USER/PASS"),
            "APOP" => self.user(command.name(), "APOP"),
            "AUTH" => self.authenticate(command),
            "STLS" => {
                self.session.known.starttls = "requested";
                self.session.is_news = true;
            }
            _ => {}
        }
        self.ask(verb, command.message(), !command.argument.is_empty());
    }

    fn ask(&mut self, verb: &'static str, message: Option<u32>, has_argument: bool) {
        self.session.open.ask(Asked {
            verb,
            message,
            has_argument,
        });
    }

    fn user(&mut self, name: Option<&[u8]>, method: &str) {
        self.session.known.method = method.to_owned();
        if let Some(name) = name {
            self.set_user(text(name, MOST_NAME));
        }
    }

    fn set_user(&mut self, user: String) {
        let (judged, content) = (&mut self.session.judged, &mut self.means.content);
        judged.compare_address(Group::Recipient, user.as_bytes(), content, self.tell);
        self.session.known.user = user;
        self.session.is_news = true;
    }

    fn authenticate(&mut self, command: Command<'_>) {
        // Without a mechanism, it asks which there are.
        let Some(mechanism) = command.name() else {
            return;
        };
        let known = &mut self.session.known;
        known.method.clear();
        if sasl::is_mechanism(mechanism) {
            known.method = text(mechanism, sasl::MOST_NAME).to_uppercase();
        }
        known.has_responded = false;
        self.session.is_news = true;
        self.session.has_secrets = true;
        if let Some(initial) = command.initial() {
            self.response(initial);
        }
    }

    /// A response of an authentication: of the first one, who it is.
    fn response(&mut self, response: &[u8]) {
        let known = &mut self.session.known;
        if !std::mem::replace(&mut known.has_responded, true)
            && let Some(user) = sasl::user(&known.method, response)
        {
            self.set_user(user);
        }
    }

    fn server_line(&mut self, line: &[u8], end: u64) -> Course {
        if matches!(self.session.phase, Phase::List) {
            let is_reply = Reply::of(line).is_some_and(|reply| reply.status != Status::GoOn);
            if !is_reply && line != b"." {
                self.offers_tls(line);
                return Course::Follow;
            }
            // A reply says too that the list is over.
            self.session.phase = Phase::Reply;
            if !is_reply {
                return Course::Follow;
            }
        }
        let Some(reply) = Reply::of(line) else {
            if self.session.open.next().is_none() && is_mail_field(line) {
                self.begin_mail(None);
                self.mail_line(line, end);
            }
            return Course::Follow;
        };
        self.heard.put_reply(reply.status.name());
        self.offers_tls(reply.text);
        if self.session.sides.greets() {
            self.session.known.banner = text(reply.text, MOST_NAME);
            self.session.is_news = true;
            return Course::Follow;
        }
        if reply.status == Status::GoOn {
            return Course::Follow;
        }
        self.session.has_secrets = false;
        let Some(asked) = self.session.open.answered() else {
            let is_tls = self.session.known.starttls == "requested" && reply.status == Status::Ok;
            return if is_tls {
                self.becomes(end)
            } else {
                Course::Follow
            };
        };
        self.heard.put_answered(asked.verb);
        if reply.status == Status::Ok {
            return self.accepted(asked, &reply, end);
        }
        Course::Follow
    }

    fn accepted(&mut self, asked: Asked, reply: &Reply<'_>, end: u64) -> Course {
        let known = &mut self.session.known;
        match asked.verb {
            "STLS" => return self.becomes(end),
            "STAT" => {
                known.totals = reply.totals().or(known.totals);
                self.session.is_news = true;
            }
            "LIST" | "UIDL" if asked.has_argument => {
                if let Some(listed) = Listed::of(reply.text) {
                    known.message = Some(listed.message);
                    let is_name = asked.verb == "UIDL";
                    known.uid = text(if is_name { listed.value } else { b"" }, MOST_NAME);
                    self.session.is_news = true;
                }
            }
            _ if asked.has_mail() => self.begin_mail(asked.message),
            _ if asked.has_lines() => self.session.phase = Phase::List,
            _ => {}
        }
        Course::Follow
    }

    fn offers_tls(&mut self, text: &[u8]) {
        let mut words = text.split(u8::is_ascii_whitespace);
        let known = &mut self.session.known;
        if known.starttls.is_empty() && words.any(|word| word == b"STLS") {
            known.starttls = "offered";
            self.session.is_news = true;
        }
    }

    fn begin_mail(&mut self, message: Option<u32>) {
        let known = &mut self.session.known;
        if known.message != message {
            known.uid.clear();
        }
        known.message = message;
        self.heard.put_passed(&self.session.letter);
        self.session.letter = Letter::default();
        self.session.is_news = true;
        let reading = Box::new(Reading::bare(self.means));
        self.session.phase = Phase::Mail(Dots::default(), reading);
    }

    /// A line of a mail that was taken for a reply.
    fn mail_line(&mut self, line: &[u8], end: u64) {
        for mut bytes in [line, b"\r\n"] {
            while !bytes.is_empty() && self.mail(&mut bytes, |_| end) {}
        }
    }

    /// Takes in the text of a mail. False if the server is not in one.
    fn mail(&mut self, rest: &mut &[u8], place: impl Fn(&[u8]) -> u64) -> bool {
        let Session {
            phase: Phase::Mail(dots, reading),
            letter,
            judged,
            is_news,
            ..
        } = &mut *self.session
        else {
            return false;
        };
        let behind = dots.take(rest, |bytes| reading.push(bytes, self.means));
        let has_ended = behind.is_some();
        *rest = behind.unwrap_or_default();
        let has_news = reading.read(letter, judged, self.means, self.tell);
        *is_news |= has_news;
        self.heard.has_mail |= has_news;
        if has_ended {
            self.mail_ends(place(rest));
        }
        true
    }

    fn mail_ends(&mut self, end: u64) {
        let session = &mut *self.session;
        if let Phase::Mail(_, reading) = std::mem::replace(&mut session.phase, Phase::Reply) {
            reading.finish(
                &mut session.letter,
                &mut session.judged,
                self.means,
                self.tell,
            );
            tell_whole(
                &session.letter,
                &session.judged,
                &mut self.means.notes,
                end,
                self.tell,
            );
            session.is_news = true;
            self.heard.has_mail = true;
        }
    }

    fn becomes(&mut self, end: u64) -> Course {
        self.session.known.starttls = "started";
        self.session.is_news = true;
        self.close();
        Course::Becomes(end, self.session.judged.exchange)
    }

    fn close(&mut self) {
        self.session.judged.fit.close_all();
        self.session.is_over = true;
    }

    fn flush(&mut self) {
        let exchange = self.session.judged.exchange;
        if let Some(end) = self.claimed {
            self.heard
                .tell(PROTOCOL, exchange, end, &mut self.means.notes, self.tell);
        }
        self.tell_news();
        if let Some(end) = self.claimed.take() {
            self.tell.belongs(Some(exchange), end);
        }
        self.judge();
    }

    fn tell_news(&mut self) {
        if !std::mem::take(&mut self.session.is_news) {
            return;
        }
        let notes = &mut self.means.notes;
        notes.clear();
        self.session.known.put_details(&mut notes.details);
        self.session.letter.put(notes);
        self.tell
            .about(self.session.judged.exchange, notes.note(PROTOCOL));
    }

    fn judge(&mut self) {
        let is_over = self.session.is_over;
        let sure = self
            .session
            .judged
            .sure(&self.means.content, is_over, self.tell);
        if !sure.is_nothing() {
            self.tell_news();
            sure.tell(self.session.judged.exchange, self.tell);
        }
    }
}
