//! Follows IMAP sessions.

use std::collections::VecDeque;

use lc_proto::details::Details;
use shm_layout::counters::WorkerCounter as Counter;

use super::command::{Command, mailbox_name};
use super::response::Response;
use super::token::{literal, quote};
use crate::email::content::Group;
use crate::email::follow::{Conversation, Follower, HANDSHAKE};
use crate::email::heard::Heard;
use crate::email::kept::{Kept, Room};
use crate::email::letter::{Letter, text};
use crate::email::lines::Lines;
use crate::email::means::{Judged, Means};
use crate::email::mime::Head;
use crate::email::reading::{Reading, compare_subject, take_addresses, tell_whole};
use crate::email::sasl;
use crate::email::sides::Sides;
use crate::extract::lines::header;
use crate::flows::Direction;
use crate::reassembly::Event;
use crate::session::{At, Course, Exchange, Tell};

const PROTOCOL: &str = "IMAP";
/// Bytes of what the server, the user and a mailbox call themselves that are told.
const MOST_NAME: usize = 256;
/// Bytes of a line with its short literals that are kept.
const MOST_TEXT: usize = 16 * 1024;
/// Longest literal that may be a word of a command or a response.
const MOST_SHORT: u64 = 1024;
/// Commands that wait for their replies.
const MOST_OPEN: usize = 128;

/// IMAP, as one worker follows it.
pub type Imap = Follower<Session>;

/// A connection.
#[derive(Debug)]
pub struct Session {
    sides: Sides,
    /// The line of each direction that is put together.
    assemblies: [Assembly; 2],
    /// Tags and names of commands without replies.
    open: VecDeque<(Vec<u8>, &'static str)>,
    /// Whether the client's lines are responses of an authentication.
    has_secrets: bool,
    known: Known,
    judged: Judged,
    letter: Letter,
    /// Whether nothing more will be said.
    is_over: bool,
    is_news: bool,
}

/// A line with its literals.
#[derive(Debug, Default)]
struct Assembly {
    /// What has come of it; short literals as quoted strings.
    text: Option<Kept>,
    /// Bytes that are to come of a literal, and what becomes of them.
    literal: Option<(u64, Filling)>,
    /// Whether any of the literal has come.
    is_begun: bool,
    /// Whether a mail was in it.
    has_mail: bool,
}

/// What a literal is.
#[derive(Debug)]
enum Filling {
    Mail(Box<Reading>),
    Word(Vec<u8>),
    Other,
}

/// What is known of the connection.
#[derive(Debug, Default)]
struct Known {
    banner: String,
    method: String,
    user: String,
    has_responded: bool,
    starttls: &'static str,
    is_compressed: bool,
    /// The mailbox that was named last.
    mailbox: String,
    /// Mails in the mailbox that is selected.
    messages: Option<u32>,
    /// The mail that passed last.
    message: Option<u32>,
    uid: Option<u32>,
}

impl Conversation for Session {
    fn begin(exchange: Exchange) -> Self {
        Self {
            sides: Sides::default(),
            assemblies: Default::default(),
            open: VecDeque::new(),
            has_secrets: false,
            known: Known::default(),
            judged: Judged::new(exchange),
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

impl Assembly {
    fn push(&mut self, text: &[u8], room: &Room) {
        let kept = self.text.get_or_insert_with(|| Kept::new(room));
        kept.push(text, MOST_TEXT);
    }

    fn text(&self) -> &[u8] {
        self.text.as_ref().map_or(&[], Kept::bytes)
    }
}

impl Known {
    fn put_details(&self, details: &mut Details) {
        let number =
            |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
        for (key, value) in [
            ("email.banner", &self.banner[..]),
            ("email.auth_method", &self.method),
            ("email.auth_user", &self.user),
            ("email.starttls", self.starttls),
            (
                "email.compressed",
                if self.is_compressed { "true" } else { "" },
            ),
            ("email.mailbox", &self.mailbox),
            ("email.messages", &number(self.messages)),
            ("email.message", &number(self.message)),
            ("email.uid", &number(self.uid)),
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
        self.session.sides.speak(self.direction);
        let (mut rest, mut course) = (bytes, Course::Follow);
        let place = |rest: &[u8]| offset + (bytes.len() - rest.len()) as u64;
        while !rest.is_empty() && course == Course::Follow {
            self.judge();
            if self.literal(&mut rest, place) {
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
        let assembly = &mut self.session.assemblies[self.direction as usize];
        match (&mut assembly.literal, len) {
            (Some((left, filling)), Some(len)) if len < *left => {
                *left -= len;
                assembly.is_begun = true;
                match filling {
                    Filling::Mail(reading) => reading.skip(Some(len)),
                    _ => *filling = Filling::Other,
                }
            }
            _ => {
                let lost = std::mem::take(assembly);
                if let Some((_, Filling::Mail(reading))) = lost.literal {
                    self.mail_ends(*reading, offset);
                }
            }
        }
        self.flush();
        Course::Follow
    }

    fn end(&mut self, offset: u64) -> Course {
        let lost = std::mem::take(&mut self.session.assemblies[self.direction as usize]);
        if let Some((_, Filling::Mail(reading))) = lost.literal {
            self.mail_ends(*reading, offset);
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

    /// Takes in the bytes of a literal. False if none is to come.
    fn literal(&mut self, rest: &mut &[u8], place: impl Fn(&[u8]) -> u64) -> bool {
        let Session {
            assemblies,
            letter,
            judged,
            is_news,
            ..
        } = &mut *self.session;
        let assembly = &mut assemblies[self.direction as usize];
        let Some((left, filling)) = &mut assembly.literal else {
            return false;
        };
        let len = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        let (bytes, behind) = rest.split_at(len);
        *rest = behind;
        *left -= len as u64;
        assembly.is_begun |= len > 0;
        match filling {
            Filling::Mail(reading) => {
                reading.push(bytes, self.means);
                let has_news = reading.read(letter, judged, self.means, self.tell);
                *is_news |= has_news;
                self.heard.has_mail |= has_news;
            }
            Filling::Word(word) => word.extend_from_slice(bytes),
            Filling::Other => {}
        }
        if *left > 0 {
            return true;
        }
        match assembly.literal.take() {
            Some((_, Filling::Word(word))) => assembly.push(&quote(&word), &self.means.room),
            Some((_, Filling::Mail(reading))) => {
                assembly.push(b"\"\"", &self.means.room);
                let end = place(rest);
                self.mail_ends(*reading, end);
            }
            _ => assembly.push(b"\"\"", &self.means.room),
        }
        true
    }

    fn line(&mut self, line: &[u8], end: u64) -> Course {
        let side = self.direction as usize;
        if self.session.assemblies[side].text().is_empty() {
            let says_client = Command::of(line).is_some_and(|command| command.verb.is_some());
            let says_server = Response::of(line).is_some();
            let sides = &mut self.session.sides;
            if sides.is_foreign(self.direction, says_client, says_server) {
                return Course::Foreign;
            }
        }
        let is_secret = self.is_client() && self.session.has_secrets;
        if !is_secret && let Some((before, len)) = literal(line) {
            self.announce(before, len);
            return Course::Follow;
        }
        let mut assembly = std::mem::take(&mut self.session.assemblies[side]);
        let whole = match assembly.text().is_empty() {
            true => line,
            false => {
                assembly.push(line, &self.means.room);
                assembly.text()
            }
        };
        if self.is_client() {
            self.client_line(whole, assembly.has_mail);
            return Course::Follow;
        }
        self.server_line(whole, assembly.has_mail, end)
    }

    /// A literal of `len` bytes comes next.
    fn announce(&mut self, before: &[u8], len: u64) {
        let is_client = self.is_client();
        let mut assembly = std::mem::take(&mut self.session.assemblies[self.direction as usize]);
        assembly.push(before, &self.means.room);
        let kind = match is_client {
            true => self.appended(&assembly),
            false => fetched(assembly.text()),
        };
        let is_first = !assembly.has_mail;
        let filling = match kind {
            Kind::Mail | Kind::Body => {
                assembly.has_mail = true;
                if is_first {
                    self.begin_letter(assembly.text(), is_client);
                }
                Filling::Mail(Box::new(match kind {
                    Kind::Mail => Reading::bare(self.means),
                    _ => Reading::body(self.means),
                }))
            }
            Kind::Word if len <= MOST_SHORT => Filling::Word(Vec::new()),
            _ => Filling::Other,
        };
        assembly.literal = Some((len, filling));
        assembly.is_begun = false;
        self.session.assemblies[self.direction as usize] = assembly;
        if len == 0 {
            let mut nothing: &[u8] = &[];
            self.literal(&mut nothing, |_| 0);
        }
    }

    /// What the next literal of the client is. The text of a mail may be long: its command is read before.
    fn appended(&mut self, assembly: &Assembly) -> Kind {
        let command = Command::of(assembly.text());
        let Some(command) = command.filter(|command| command.verb == Some("APPEND")) else {
            return Kind::Word;
        };
        if command.mailboxes().is_empty() {
            return Kind::Word;
        }
        if !assembly.has_mail {
            self.command(&command);
        }
        Kind::Mail
    }

    fn begin_letter(&mut self, text: &[u8], is_client: bool) {
        self.heard.put_passed(&self.session.letter);
        self.session.letter = Letter::default();
        self.session.known.message = None;
        self.session.known.uid = None;
        if !is_client && let Some(response) = Response::of(text) {
            self.session.known.message = response.message;
            self.session.known.uid = response.uid;
        }
        self.session.is_news = true;
    }

    fn client_line(&mut self, line: &[u8], is_told: bool) {
        let command = Command::of(line);
        if self.session.has_secrets {
            let is_known = command.is_some_and(|command| command.verb.is_some());
            if self.session.sides.hears_server() || !is_known {
                return self.response(line);
            }
            self.session.has_secrets = false;
        }
        match command {
            Some(command) if !is_told => self.command(&command),
            Some(_) => {}
            None => self.tell.count(Counter::MailUnknown),
        }
    }

    fn command(&mut self, command: &Command<'_>) {
        let fit = &mut self.session.judged.fit;
        let name = command.name();
        self.means
            .content
            .compare(fit, Group::Command, name.as_bytes());
        for mailbox in command.mailboxes() {
            self.mailbox(&mailbox);
        }
        let Some(verb) = command.verb else {
            return self.tell.count(Counter::MailUnknown);
        };
        self.tell.count(Counter::MailCommands);
        self.heard.put_command(verb);
        if verb == "DONE" {
            return;
        }
        self.session.sides.is_joined = false;
        if self.session.open.len() == MOST_OPEN {
            self.session.open.pop_front();
        }
        self.session.open.push_back((command.tag.to_vec(), verb));
        match verb {
            "LOGIN" => {
                self.session.known.method = "LOGIN".to_owned();
                if let Some(user) = command.first() {
                    self.set_user(text(&user, MOST_NAME));
                }
            }
            "AUTHENTICATE" => self.authenticate(command),
            "STARTTLS" => {
                self.session.known.starttls = "requested";
                self.session.is_news = true;
            }
            _ => {}
        }
    }

    fn mailbox(&mut self, raw: &[u8]) {
        let name = mailbox_name(raw);
        let fit = &mut self.session.judged.fit;
        for text in [name.as_bytes(), raw] {
            self.means.content.compare(fit, Group::Mailbox, text);
        }
        self.session.known.mailbox = text(name.as_bytes(), MOST_NAME);
        self.session.is_news = true;
    }

    fn set_user(&mut self, user: String) {
        let (judged, content) = (&mut self.session.judged, &mut self.means.content);
        judged.compare_address(Group::Recipient, user.as_bytes(), content, self.tell);
        self.session.known.user = user;
        self.session.is_news = true;
    }

    fn authenticate(&mut self, command: &Command<'_>) {
        let known = &mut self.session.known;
        known.method.clear();
        if let Some(mechanism) = command.first().filter(|name| sasl::is_mechanism(name)) {
            known.method = text(&mechanism, sasl::MOST_NAME).to_uppercase();
        }
        known.has_responded = false;
        self.session.has_secrets = true;
        self.session.is_news = true;
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

    fn server_line(&mut self, line: &[u8], has_mail: bool, end: u64) -> Course {
        let Some(response) = Response::of(line) else {
            if self.session.sides.is_joined {
                self.stray_line(line);
            }
            return Course::Follow;
        };
        let known = &mut self.session.known;
        if response.offers_tls && known.starttls.is_empty() {
            known.starttls = "offered";
            self.session.is_news = true;
        }
        if !response.tag.is_empty() {
            return self.reply(&response, end);
        }
        if matches!(response.status, "BYE" | "PREAUTH") {
            self.heard.put_reply(response.status);
        }
        if self.session.sides.greets() {
            self.session.known.banner = text(response.text, MOST_NAME);
            self.session.is_news = true;
        }
        if let Some(messages) = response.exists {
            self.session.known.messages = Some(messages);
            self.session.is_news = true;
        }
        if let Some(envelope) = &response.envelope {
            self.envelope(&response, envelope.head(), has_mail);
        }
        if has_mail && response.uid.is_some() {
            self.session.known.uid = response.uid;
        }
        Course::Follow
    }

    /// A line of a literal whose beginning was missed.
    fn stray_line(&mut self, line: &[u8]) {
        if let Some((name, value)) = header(line)
            && name.eq_ignore_ascii_case(b"subject")
        {
            compare_subject(value, &mut self.session.judged, self.means, self.tell);
        }
    }

    fn envelope(&mut self, response: &Response<'_>, head: Head, has_mail: bool) {
        let (judged, mut letter) = (&mut self.session.judged, Letter::default());
        for subject in &head.subjects {
            compare_subject(subject.text.as_bytes(), judged, self.means, self.tell);
            compare_subject(&subject.raw, judged, self.means, self.tell);
        }
        take_addresses(&head, &mut letter, judged, self.means, self.tell);
        letter.set_head(head);
        if !has_mail {
            self.heard.put_passed(&self.session.letter);
            self.heard.has_mail = true;
            self.session.letter = letter;
            self.session.known.message = response.message;
            self.session.known.uid = response.uid;
            self.session.is_news = true;
        }
    }

    /// A reply with a tag.
    fn reply(&mut self, response: &Response<'_>, end: u64) -> Course {
        self.heard.put_reply(response.status);
        let open = &mut self.session.open;
        let at = open.iter().position(|(tag, _)| tag == response.tag);
        let Some((_, name)) = at.and_then(|at| open.remove(at)) else {
            return Course::Follow;
        };
        self.heard.put_answered(name);
        // A literal that was refused does not come.
        let client = &mut self.session.assemblies[self.session.sides.client as usize];
        let is_its =
            |text: &[u8]| Command::of(text).is_some_and(|command| command.tag == response.tag);
        if response.status != "OK" && !client.is_begun && is_its(client.text()) {
            *client = Assembly::default();
        }
        let is_accepted = response.status == "OK";
        match name {
            "AUTHENTICATE" => self.session.has_secrets = false,
            "STARTTLS" if is_accepted => {
                self.session.known.starttls = "started";
                self.session.is_news = true;
                self.close();
                return Course::Becomes(end, self.session.judged.exchange);
            }
            "COMPRESS" if is_accepted => {
                self.session.known.is_compressed = true;
                self.session.is_news = true;
                self.close();
                return Course::RestOfBoth(Some(self.session.judged.exchange));
            }
            _ => {}
        }
        Course::Follow
    }

    fn mail_ends(&mut self, reading: Reading, end: u64) {
        let session = &mut *self.session;
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

/// What a literal may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A mail, or its head.
    Mail,
    /// The body of a mail, or a part of it.
    Body,
    /// A word.
    Word,
    /// Something else.
    Other,
}

/// What the literal behind `text` is, which the server says.
fn fetched(text: &[u8]) -> Kind {
    if Response::of(text).is_none_or(|response| response.message.is_none()) {
        return Kind::Word;
    }
    let name = text.trim_ascii_end().to_ascii_uppercase();
    if name.ends_with(b"RFC822") || name.ends_with(b"RFC822.HEADER") {
        return Kind::Mail;
    }
    if name.ends_with(b"RFC822.TEXT") {
        return Kind::Body;
    }
    let Some(at) = memchr::memmem::rfind(&name, b"BODY[") else {
        return Kind::Word;
    };
    let section = &name[at + 5..];
    let Some(close) = section.iter().position(|byte| *byte == b']') else {
        return Kind::Word;
    };
    let (section, behind) = (&section[..close], &section[close + 1..]);
    match behind {
        b"" | b"<0>" if section.is_empty() || section.starts_with(b"HEADER") => Kind::Mail,
        _ if behind.contains(&b' ') => Kind::Word,
        _ if section.first().is_some_and(u8::is_ascii_digit) && section.ends_with(b"MIME") => {
            Kind::Other
        }
        _ => Kind::Body,
    }
}
