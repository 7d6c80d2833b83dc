//! Follows SMTP sessions.

use super::command::Command;
use super::pairing::Pairing;
use super::place;
use super::reply::Reply;
use super::telling::Said;
use crate::email::dots::Dots;
use crate::email::follow::{Conversation, Follower, HANDSHAKE};
use crate::email::letter::Letter;
use crate::email::lines::Lines;
use crate::email::means::{Judged, Means};
use crate::email::reading::Reading;
use crate::email::sides::Sides;
use crate::flows::Direction;
use crate::reassembly::Event;
use crate::session::{At, Cited, Course, Exchange, Place, Tell};

/// SMTP, as one worker follows it.
pub type Smtp = Follower<Session>;

/// A connection.
#[derive(Debug)]
pub struct Session {
    pub(super) sides: Sides,
    pub(super) phase: Phase,
    pub(super) pairing: Pairing,
    pub(super) is_lmtp: bool,
    pub(super) known: Known,
    pub(super) deal: Deal,
    /// Changes with every line, and in a text where it stands otherwise than before.
    pub(super) steps: u64,
}

/// What the client says next.
#[derive(Debug)]
pub(super) enum Phase {
    /// Commands.
    Commands,
    /// A text or, if DATA is refused, commands.
    Waits,
    /// Responses of an authentication.
    Secrets,
    /// The text of a mail.
    Text(Dots),
    /// A chunk of it (RFC 3030).
    Chunk {
        /// Bytes that are to come.
        left: u64,
        is_last: bool,
    },
}

/// What is known of the connection.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) client: String,
    pub(super) banner: String,
    pub(super) mechanism: String,
    pub(super) user: Option<String>,
    /// Whether the first response has come, which alone may name the user.
    pub(super) has_responded: bool,
    /// `offered`, `requested`, `started`.
    pub(super) starttls: &'static str,
}

/// The exchange at hand.
#[derive(Debug)]
pub(super) struct Deal {
    pub(super) judged: Judged,
    pub(super) stage: Stage,
    pub(super) letter: Letter,
    pub(super) reading: Option<Reading>,
    /// Sender of a second MAIL, until its reply.
    pub(super) second: Option<Vec<u8>>,
    /// Bytes that the mail has, by MAIL.
    pub(super) size: Option<u64>,
    /// Recipients that the server has accepted.
    pub(super) accepted: u32,
    /// Whether the server has answered the text before its end was seen.
    pub(super) is_answered: bool,
    /// Whether some of the text is missing.
    pub(super) is_torn: bool,
    /// Whether something has changed that is told on all packets.
    pub(super) is_news: bool,
}

/// How far a mail has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Stage {
    /// No MAIL.
    #[default]
    Before,
    /// MAIL, and no text.
    Open,
    /// Text.
    Text,
    /// Sent, refused or given up.
    Over,
}

impl Conversation for Session {
    fn begin(exchange: Exchange) -> Self {
        Self {
            sides: Sides::default(),
            phase: Phase::Commands,
            pairing: Pairing::default(),
            is_lmtp: false,
            known: Known::default(),
            deal: Deal::new(exchange),
            steps: 0,
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
            said: Said::default(),
        };
        match event {
            Event::Data { offset, bytes } => talk.data(offset, bytes),
            Event::Gap { offset, len } => {
                talk.session.steps += 1;
                talk.gap(offset, len)
            }
            Event::End { offset, .. } => {
                talk.session.steps += 1;
                talk.end(offset)
            }
        }
    }

    fn place(&self, cited: &mut Cited) -> Option<Place> {
        place::place(self, cited)
    }

    fn steps(&self) -> u64 {
        self.steps
    }

    fn resume(place: &[u8], cited: &Cited) -> Option<Self> {
        place::resume(place, cited)
    }
}

/// A session while something happens in it.
pub(super) struct Talk<'a, T> {
    pub(super) means: &'a mut Means,
    pub(super) session: &'a mut Session,
    pub(super) tell: &'a mut T,
    pub(super) direction: Direction,
    pub(super) said: Said,
}

impl<T: Tell> Talk<'_, T> {
    fn data(&mut self, offset: u64, bytes: &[u8]) -> Course {
        let side = self.direction as usize;
        let mut lines = std::mem::take(&mut self.session.sides.lines[side]);
        if self.session.sides.speak(self.direction) {
            self.session.pairing.turn();
        }
        let mut rest = bytes;
        let mut course = Course::Follow;
        let place = |rest: &[u8]| offset + (bytes.len() - rest.len()) as u64;
        while !rest.is_empty() && course == Course::Follow {
            self.judge();
            if self.is_client() && self.text(&mut rest, place) {
                continue;
            }
            if self.is_client() && self.is_tls(&lines, rest) {
                course = Course::Becomes(place(rest), self.exchange());
            } else if let Some(line) = lines.next(&mut rest, &self.means.room) {
                course = self.line(line, place(rest));
            }
        }
        self.session.sides.lines[side] = lines;
        self.flush();
        course
    }

    fn gap(&mut self, offset: u64, len: Option<u64>) -> Course {
        self.session.sides.gap(self.direction, offset, len);
        if self.is_client() {
            self.text_gap(offset, len);
        } else {
            self.session.pairing.lose();
        }
        self.flush();
        Course::Follow
    }

    fn end(&mut self, offset: u64) -> Course {
        self.claim(self.exchange(), offset);
        if self.is_client() {
            self.mail_ends(offset);
        }
        if self.session.sides.end(self.direction) {
            self.close();
        }
        self.flush();
        Course::Follow
    }

    pub(super) fn exchange(&self) -> Exchange {
        self.session.deal.judged.exchange
    }

    pub(super) fn is_client(&self) -> bool {
        self.direction == self.session.sides.client
    }

    /// Whether the client begins with TLS where it has asked for it, though the server's consent was not seen.
    fn is_tls(&self, lines: &Lines, rest: &[u8]) -> bool {
        lines.begun().is_empty()
            && rest.first() == Some(&HANDSHAKE)
            && self.session.known.starttls == "requested"
    }

    /// A line; `end` is behind it.
    fn line(&mut self, line: &[u8], end: u64) -> Course {
        self.session.steps += 1;
        let says_client = Command::of(line).is_some();
        let says_server = Reply::of(line).is_some();
        let sides = &mut self.session.sides;
        if sides.is_foreign(self.direction, says_client, says_server) {
            return Course::Foreign;
        }
        if self.is_client() {
            self.client_line(line, end);
            return Course::Follow;
        }
        self.server_line(line, end)
    }
}
