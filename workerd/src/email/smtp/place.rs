//! Where a connection is, as a successor is told ([`Protocol::place`](crate::session::Protocol::place)): protobuf, of which any bytes give a connection.
//!
//! A line that has not come whole is not told: a successor sees its packets again. Nor is what was read of a text: of a mail in whose text its worker dies, what was found is told on, and no more is found.

use std::collections::VecDeque;

use prost::Message;

use super::command::Verb;
use super::pairing::{Asked, Pairing};
use super::session::{Deal, Known, Phase, Session, Stage};
use crate::email::dots::Dots;
use crate::email::letter::Letter;
use crate::email::means::Judged;
use crate::email::open::Open;
use crate::email::sides::{self, Sides};
use crate::session::{Cited, Exchange, Place};

/// Most commands without replies, of a connection whose place is told.
const MOST_OPEN: usize = 256;
/// Recipients of the mail that are told.
const MOST_RECIPIENTS: usize = 16;
/// What is known of STARTTLS, by number.
const STARTTLS: [&str; 4] = ["", "offered", "requested", "started"];

/// A connection.
#[derive(Clone, PartialEq, Message)]
struct Told {
    #[prost(message, optional, tag = "1")]
    sides: Option<sides::Told>,
    /// See [`Phase`], in their order.
    #[prost(uint32, tag = "2")]
    phase: u32,
    /// In a text: between which bytes.
    #[prost(uint32, tag = "3")]
    dots: u32,
    /// In a chunk: bytes that are to come.
    #[prost(uint64, tag = "4")]
    left: u64,
    #[prost(bool, tag = "5")]
    is_last: bool,
    /// Commands without replies, if their order is known.
    #[prost(message, repeated, tag = "6")]
    open: Vec<Question>,
    #[prost(bool, tag = "7")]
    is_lost: bool,
    #[prost(bool, tag = "8")]
    is_lmtp: bool,
    #[prost(string, tag = "9")]
    client: String,
    #[prost(string, tag = "10")]
    banner: String,
    #[prost(string, tag = "11")]
    mechanism: String,
    #[prost(string, optional, tag = "12")]
    user: Option<String>,
    #[prost(bool, tag = "13")]
    has_responded: bool,
    #[prost(uint32, tag = "14")]
    starttls: u32,
    /// The exchange at hand.
    #[prost(uint32, tag = "15")]
    exchange: u32,
    #[prost(uint32, tag = "16")]
    judged: u32,
    /// See [`Stage`], in their order.
    #[prost(uint32, tag = "17")]
    stage: u32,
    #[prost(bytes = "vec", optional, tag = "18")]
    second: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "19")]
    size: Option<u64>,
    #[prost(uint32, tag = "20")]
    accepted: u32,
    #[prost(bool, tag = "21")]
    is_answered: bool,
    #[prost(bool, tag = "22")]
    is_torn: bool,
    #[prost(string, tag = "23")]
    sender: String,
    #[prost(string, repeated, tag = "24")]
    recipients: Vec<String>,
    #[prost(string, tag = "25")]
    subject: String,
    #[prost(string, tag = "26")]
    message_id: String,
}

/// A command without a reply.
#[derive(Clone, PartialEq, Message)]
struct Question {
    /// 0: a command, 1: a second MAIL, 2: a text, 3: nothing known.
    #[prost(uint32, tag = "1")]
    kind: u32,
    /// Which command, or how many replies.
    #[prost(uint32, tag = "2")]
    number: u32,
    #[prost(uint32, tag = "3")]
    exchange: u32,
}

impl Question {
    fn of(asked: Asked, exchange: Exchange, cited: &mut Cited) -> Self {
        let (kind, number) = match asked {
            Asked::Command(verb) => (0, verb as u32),
            Asked::SecondMail => (1, 0),
            Asked::Text { replies } => (2, replies),
            Asked::Unknown => (3, 0),
        };
        Self {
            kind,
            number,
            exchange: cited.number(Some(exchange)),
        }
    }

    fn asked(&self, cited: &Cited) -> Option<(Asked, Exchange)> {
        let asked = match self.kind {
            0 => Asked::Command(*Verb::ALL.get(self.number as usize)?),
            1 => Asked::SecondMail,
            2 => Asked::Text {
                replies: self.number,
            },
            _ => Asked::Unknown,
        };
        Some((asked, cited.get(self.exchange)?))
    }
}

/// Where a session is; none if too many commands wait for their replies.
pub(super) fn place(session: &Session, cited: &mut Cited) -> Option<Place> {
    let Session {
        sides,
        phase,
        pairing: Pairing { open },
        is_lmtp,
        known,
        deal,
        ..
    } = session;
    if open.asked.len() > MOST_OPEN {
        return None;
    }
    let mut told = Told {
        sides: Some(sides.told()),
        open: (open.asked.iter())
            .map(|(asked, exchange)| Question::of(*asked, *exchange, cited))
            .collect(),
        is_lost: open.is_lost,
        is_lmtp: *is_lmtp,
        client: known.client.clone(),
        banner: known.banner.clone(),
        mechanism: known.mechanism.clone(),
        user: known.user.clone(),
        has_responded: known.has_responded,
        starttls: STARTTLS.iter().position(|it| *it == known.starttls)? as u32,
        exchange: cited.number(Some(deal.judged.exchange)),
        judged: deal.judged.told(),
        stage: deal.stage as u32,
        second: deal.second.clone(),
        size: deal.size,
        accepted: deal.accepted,
        is_answered: deal.is_answered,
        is_torn: deal.is_torn,
        sender: deal.letter.sender.clone(),
        recipients: (deal.letter.recipients.iter())
            .take(MOST_RECIPIENTS)
            .cloned()
            .collect(),
        subject: deal.letter.subject.clone(),
        message_id: deal.letter.message_id.clone(),
        ..Told::default()
    };
    let mut passive = [0; 2];
    match phase {
        Phase::Commands => {}
        Phase::Waits => told.phase = 1,
        Phase::Secrets => told.phase = 2,
        Phase::Text(dots) => {
            (told.phase, told.dots) = (3, dots.number());
            passive[sides.client as usize] = u64::MAX;
        }
        Phase::Chunk { left, is_last } => {
            (told.phase, told.left, told.is_last) = (4, *left, *is_last);
        }
    }
    Some(Place {
        bytes: told.encode_to_vec(),
        passive,
    })
}

/// A session that goes on there.
pub(super) fn resume(place: &[u8], cited: &Cited) -> Option<Session> {
    let told = Told::decode(place).ok()?;
    let questions = told.open.iter().take(MOST_OPEN);
    let asked: VecDeque<_> = questions.filter_map(|one| one.asked(cited)).collect();
    let mut letter = Letter::default();
    (letter.subject, letter.message_id) = (told.subject, told.message_id);
    letter.set_sender(told.sender.as_bytes());
    for recipient in told.recipients.iter().take(MOST_RECIPIENTS) {
        letter.put_recipient(recipient.as_bytes());
    }
    let starttls = STARTTLS.get(told.starttls as usize).copied();
    Some(Session {
        sides: told.sides.map(Sides::resumed).unwrap_or_default(),
        phase: match told.phase {
            1 => Phase::Waits,
            2 => Phase::Secrets,
            3 => Phase::Text(Dots::numbered(told.dots)),
            4 => Phase::Chunk {
                left: told.left,
                is_last: told.is_last,
            },
            _ => Phase::Commands,
        },
        pairing: Pairing {
            open: Open {
                asked,
                is_lost: told.is_lost,
            },
        },
        is_lmtp: told.is_lmtp,
        known: Known {
            client: told.client,
            banner: told.banner,
            mechanism: told.mechanism,
            user: told.user,
            has_responded: told.has_responded,
            starttls: starttls.unwrap_or_default(),
        },
        deal: Deal {
            judged: Judged::resumed(cited.get(told.exchange)?, told.judged),
            stage: match told.stage {
                0 => Stage::Before,
                1 => Stage::Open,
                2 => Stage::Text,
                _ => Stage::Over,
            },
            letter,
            second: told.second,
            size: told.size,
            accepted: told.accepted,
            is_answered: told.is_answered,
            is_torn: told.is_torn,
            ..Deal::new(cited.get(told.exchange)?)
        },
        steps: 0,
    })
}
