//! For tests: parts of what was told.

use crate::flows::Direction::{self, Request, Response};
use crate::session::script::Told;
use crate::session::{Content, Course};

/// The notes: whose, of which direction, at which offset, and the line for people.
pub fn notes(told: &[Told]) -> Vec<(u64, Direction, u64, &str)> {
    let note = |told| match told {
        &Told::Note {
            exchange,
            direction,
            offset,
            ref info,
            ..
        } => Some((exchange.0, direction, offset, info.as_str())),
        _ => None,
    };
    told.iter().filter_map(note).collect()
}

/// Whose bytes these are, and up to where.
pub type Claim = (Option<u64>, u64);

/// Whose bytes are whose, joined.
pub fn claims(told: &[Told], side: Direction) -> Vec<Claim> {
    let mut claims: Vec<Claim> = vec![];
    for told in told {
        if let Told::Belongs(direction, exchange, end) = told
            && *direction == side
        {
            let id = exchange.map(|exchange| exchange.0);
            match claims.last_mut() {
                Some(last) if last.0 == id => last.1 = *end,
                _ => claims.push((id, *end)),
            }
        }
    }
    claims
}

/// What is told of the mode's own filter.
pub fn verdicts(told: &[Told]) -> Vec<(u64, Content)> {
    let of = |told: &Told| match told {
        Told::Content(exchange, content) => Some((exchange.0, *content)),
        _ => None,
    };
    told.iter().filter_map(of).collect()
}

/// How it goes on.
pub fn courses(told: &[Told]) -> Vec<Course> {
    let of = |told: &Told| match told {
        Told::Course(_, course) => Some(*course),
        _ => None,
    };
    told.iter().filter_map(of).collect()
}

/// What is told, but for how claims are cut.
pub fn essence(told: &[Told]) -> (Vec<Told>, [Vec<Claim>; 2]) {
    let others = told
        .iter()
        .filter(|told| !matches!(told, Told::Belongs(..)));
    (
        others.cloned().collect(),
        [claims(told, Request), claims(told, Response)],
    )
}
