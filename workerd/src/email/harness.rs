//! For tests of the protocols of mail: plays what was said, and sorts what was told.

use std::collections::BTreeMap;

use lc_daemon::config::{Email, EmailContent};
use lc_proto::data::{EmailMetadata, PacketMetadata};
use prost::Message;

use crate::flows::Direction;
use crate::matcher::Kind;
use crate::reassembly::End;
use crate::session::script::{Script, Told};
use crate::session::{Content, Protocol};

pub const C: Direction = Direction::Request;
pub const S: Direction = Direction::Response;

pub type Lines<'a> = &'a [(Direction, &'a str)];

/// What is told of a connection that says this, at most `size` bytes at a time.
pub fn play_on<P: Protocol>(protocol: &mut P, said: Lines<'_>, size: usize) -> Vec<Told> {
    let mut script = Script::new(protocol, 25);
    for (direction, text) in said {
        for piece in text.as_bytes().chunks(size) {
            script.bytes(*direction, piece);
            if let Some(Told::Course(..)) = script.told.last() {
                return script.told;
            }
        }
    }
    script.end(C, End::Finished).end(S, End::Finished);
    script.told
}

pub fn settings() -> Email {
    Email {
        body: Some(65_536),
        ..Email::default()
    }
}

/// The last of what is told of all packets of each exchange.
pub fn blocks(told: &[Told]) -> Vec<EmailMetadata> {
    let mut blocks = BTreeMap::new();
    for one in told {
        if let Told::About {
            exchange,
            blocks: block,
            ..
        } = one
        {
            match PacketMetadata::decode(&block[..]).unwrap().email {
                Some(email) => blocks.insert(*exchange, email),
                None => blocks.remove(exchange),
            };
        }
    }
    blocks.into_values().collect()
}

pub fn block(told: &[Told]) -> EmailMetadata {
    blocks(told).pop().unwrap_or_default()
}

/// The last value of a detail that is told of all packets.
pub fn detail(told: &[Told], key: &str) -> Option<String> {
    told.iter().rev().find_map(|one| match one {
        Told::About { details, .. } => {
            let metadata = PacketMetadata::decode(&details[..]).unwrap();
            metadata.details.get(key).cloned()
        }
        _ => None,
    })
}

/// All values of a detail of single packets.
pub fn noted(told: &[Told], key: &str) -> String {
    let value = |one: &Told| match one {
        Told::Note { details, .. } => PacketMetadata::decode(&details[..])
            .unwrap()
            .details
            .get(key)
            .cloned(),
        _ => None,
    };
    let values: Vec<_> = told.iter().filter_map(value).collect();
    values.join(",")
}

pub fn compared(told: &[Told]) -> Vec<(u64, Kind, &str)> {
    let mut all = Vec::new();
    for one in told {
        if let Told::Compare(exchange, kind, text) = one {
            all.push((exchange.0, *kind, &text[..]));
        }
    }
    all
}

pub fn contents(told: &[Told]) -> Vec<(u64, Content)> {
    let one = |one: &Told| match one {
        Told::Content(exchange, content) => Some((exchange.0, *content)),
        _ => None,
    };
    told.iter().filter_map(one).collect()
}

/// Whose the bytes of a direction are: exchange and end of each run.
pub fn owners(told: &[Told], direction: Direction) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for one in told {
        if let Told::Belongs(of, Some(exchange), end) = one
            && *of == direction
        {
            match runs.last_mut() {
                Some(last) if last.0 == exchange.0 => last.1 = *end,
                _ => runs.push((exchange.0, *end)),
            }
        }
    }
    runs
}

pub fn settled(told: &[Told]) -> Vec<u64> {
    let one = |one: &Told| match one {
        Told::Settle(exchange) => Some(exchange.0),
        _ => None,
    };
    told.iter().filter_map(one).collect()
}

/// Length of what a direction says.
pub fn len(said: Lines<'_>, direction: Direction) -> u64 {
    let of = said.iter().filter(|(of, _)| *of == direction);
    of.map(|(_, text)| text.len() as u64).sum()
}

pub fn content(change: impl FnOnce(&mut EmailContent)) -> Email {
    let mut settings = settings();
    change(&mut settings.content);
    settings
}

/// What is told, but for how it is cut up.
pub fn gist(told: &[Told]) -> String {
    let courses = told.iter().filter(|one| matches!(one, Told::Course(..)));
    let courses: Vec<_> = courses.collect();
    let notes = ["email.command", "email.reply", "email.reply_to"].map(|key| noted(told, key));
    let owners = (owners(told, C), owners(told, S));
    let verdicts = (compared(told), contents(told), settled(told));
    format!(
        "{owners:?} {verdicts:?} {courses:?} {notes:?} {:?}",
        blocks(told)
    )
}
