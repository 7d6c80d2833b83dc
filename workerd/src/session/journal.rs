//! What a worker tells of its sessions, for its successor: which there are, what they carry, and which are wanted.
//!
//! A successor sees packets once more that were held; of what has left it knows what is told here: where the session was before the first of them, or is, if none waits, in its streams and in its
//! protocol ([`waypoint`](super::waypoint)), and what was decided of the exchanges of which something may still come. It is told at a commit if it has changed in substance since the
//! last one: where messages and their parts begin and end, not for each packet of a body.
//!
//! A session of which nothing can be said, since it has no place, or what it had in the log was given up, is picked up in its middle.
//!
//! Protobuf, as in [`crate::voip::snapshot`]: any bytes give a session or none.

use lc_daemon::calls_log::SESSION;
use prost::Message;
use shm_layout::log::LogWriter;

use super::exchanges::Inherited;
use super::floor::Heirloom;
use super::roster::{Carrier, Roster};
use super::sessions::{Account, Sessions};
use super::tracker::Ends;
use super::waypoint::Point;
use crate::decode::Addr;
use crate::desk::journal::read_all;
use crate::desk::verdict::{Ids, Standing};
use crate::detect;
use crate::reassembly::Spot;

/// Most bytes of a stream that are believed.
const MOST_BYTES: u64 = 1 << 60;

/// What is told of a session.
#[derive(Clone, PartialEq, Message)]
struct Told {
    #[prost(bytes = "vec", tag = "1")]
    client: Vec<u8>,
    #[prost(uint32, tag = "2")]
    client_port: u32,
    #[prost(bytes = "vec", tag = "3")]
    server: Vec<u8>,
    #[prost(uint32, tag = "4")]
    server_port: u32,
    #[prost(bool, tag = "5")]
    is_stream: bool,
    /// By its name; empty if it is not known.
    #[prost(string, tag = "6")]
    protocol: String,
    #[prost(bool, tag = "10")]
    is_gone: bool,
    /// A [`Point`], encoded.
    #[prost(bytes = "vec", tag = "12")]
    point: Vec<u8>,
    /// Of both directions.
    #[prost(message, repeated, tag = "13")]
    places: Vec<Place>,
    /// Those that the point speaks of.
    #[prost(message, repeated, tag = "14")]
    exchanges: Vec<Exchange>,
    /// Whether a successor sees again all that has come behind the point.
    #[prost(bool, tag = "15")]
    is_exact: bool,
    /// Where packets lie that have left, and are to be looked at again.
    #[prost(uint64, repeated, tag = "16")]
    seen: Vec<u64>,
}

/// Where a direction stands.
#[derive(Clone, PartialEq, Message)]
struct Place {
    /// Up to where bytes belong to somebody.
    #[prost(uint64, tag = "1")]
    claimed: u64,
    /// Sequence number of the next byte; none if the stream has not begun.
    #[prost(fixed32, optional, tag = "2")]
    next: Option<u32>,
    #[prost(uint64, tag = "3")]
    offset: u64,
    #[prost(bool, tag = "4")]
    has_ended: bool,
}

/// What is decided of an exchange.
#[derive(Clone, PartialEq, Message)]
struct Exchange {
    #[prost(bool, tag = "1")]
    is_wanted: bool,
    /// By which filters; by none if the policy wants it.
    #[prost(string, repeated, tag = "2")]
    ids: Vec<String>,
    /// Whether it fits the mode's own settings.
    #[prost(bool, tag = "3")]
    fits: bool,
}

impl Place {
    fn of(claimed: u64, spot: Option<Spot>) -> Self {
        Self {
            claimed,
            next: spot.map(|spot| spot.next),
            offset: spot.map_or(0, |spot| spot.offset),
            has_ended: spot.is_some_and(|spot| spot.has_ended),
        }
    }

    fn spot(&self) -> Option<Spot> {
        Some(Spot {
            next: self.next?,
            offset: self.offset.min(MOST_BYTES),
            has_ended: self.has_ended,
        })
    }
}

impl Exchange {
    fn of(inherited: &Inherited) -> Self {
        Self {
            is_wanted: inherited.standing >= Standing::Passed,
            ids: inherited.ids.iter().map(str::to_owned).collect(),
            fits: inherited.fits,
        }
    }

    fn inherited(&self) -> Inherited {
        let mut ids = Ids::default();
        for id in &self.ids {
            ids.add(id);
        }
        Inherited {
            standing: match (self.is_wanted, ids.is_empty()) {
                (false, _) => Standing::Unwanted,
                (true, true) => Standing::Passed,
                (true, false) => Standing::Matched,
            },
            ids,
            fits: self.fits,
        }
    }
}

impl Told {
    fn at(ends: &Ends, carrier: Carrier) -> Self {
        Self {
            client: octets(ends.client.0),
            client_port: ends.client.1.into(),
            server: octets(ends.server.0),
            server_port: ends.server.1.into(),
            is_stream: carrier == Carrier::Stream,
            ..Self::default()
        }
    }

    fn of(account: &Account) -> Self {
        let waypoint = &account.waypoint;
        let places = waypoint.claimed.into_iter().zip(waypoint.spots);
        Self {
            protocol: (account.protocol).map_or(String::new(), |it| it.name().to_owned()),
            point: waypoint.stand.point.clone(),
            places: places
                .map(|(claimed, spot)| Place::of(claimed, spot))
                .collect(),
            exchanges: account.exchanges.iter().map(Exchange::of).collect(),
            is_exact: account.is_exact,
            seen: account.seen.clone(),
            ..Self::at(&account.ends, account.carrier)
        }
    }

    fn ends(&self) -> Option<(Ends, Carrier)> {
        let end = |octets: &[u8], port: u32| Some((address(octets)?, u16::try_from(port).ok()?));
        let ends = Ends {
            client: end(&self.client, self.client_port)?,
            server: end(&self.server, self.server_port)?,
        };
        let carrier = match self.is_stream {
            true => Carrier::Stream,
            false => Carrier::Datagrams,
        };
        Some((ends, carrier))
    }

    /// None if nothing was known of the session but what is seen again.
    fn heirloom(&self, client: (Addr, u16), position: u64) -> Option<Heirloom> {
        let mut protocols = detect::Protocol::ALL.iter();
        let mut point = Point::decode(&*self.point).ok()?;
        if self.is_exact {
            point.passive.clear();
        }
        let place = |way: usize| self.places.get(way);
        let spots = [0, 1].map(|way| place(way)?.spot());
        let is_new = self.point.is_empty() && spots == [None; 2];
        (!is_new).then(|| Heirloom {
            client,
            protocol: protocols
                .find(|protocol| protocol.name() == self.protocol)
                .copied(),
            point,
            spots,
            claimed: [0, 1].map(|way| place(way).map_or(0, |it| it.claimed.min(MOST_BYTES))),
            exchanges: self.exchanges.iter().map(Exchange::inherited).collect(),
            told_at: Some(position),
        })
    }
}

/// Tells of sessions.
#[derive(Debug, Default)]
pub struct Journal {
    scratch: Vec<u8>,
}

impl Journal {
    /// Learns what a predecessor told.
    pub fn restore<R: Roster>(&mut self, log: &LogWriter, sessions: &mut Sessions<R>) {
        read_all(log, &mut self.scratch, |record| {
            if record.kind != SESSION {
                return;
            }
            let told = Told::decode(record.body).ok();
            if let Some((told, (ends, carrier))) =
                told.and_then(|told| Some((told.clone(), told.ends()?)))
            {
                let heirloom = told.heirloom(ends.client, record.position);
                let heirloom = heirloom.filter(|_| !told.is_gone);
                sessions.bequeath_seen(&told.seen);
                sessions.bequeath(&ends, carrier, heirloom);
            }
        });
    }

    /// Tells what has changed since, as far as there is room.
    pub fn tell<R: Roster>(&mut self, log: &mut LogWriter, sessions: &mut Sessions<R>) {
        while let Some((ends, carrier)) = sessions.next_gone() {
            let told = Told {
                is_gone: true,
                ..Told::at(&ends, carrier)
            };
            self.append(log, &told);
        }
        while let Some(id) = sessions.next_changed() {
            let Some(account) = sessions.account(id) else {
                continue;
            };
            let told = Told::of(&account);
            if let Some(position) = self.append(log, &told) {
                sessions.told(id, position);
            }
        }
    }

    fn append(&mut self, log: &mut LogWriter, told: &Told) -> Option<u64> {
        self.scratch.clear();
        // A vector grows as needed, so this can't fail.
        let _ = told.encode(&mut self.scratch);
        log.append(SESSION, &[&self.scratch]).ok()
    }

    /// The record at `position` is about to be given up: what is of use of it is told again.
    pub fn keep<R: Roster>(position: u64, body: &[u8], sessions: &mut Sessions<R>) {
        let told = Told::decode(body).ok();
        if let Some((ends, carrier)) = told.and_then(|told| told.ends()) {
            sessions.keep(position, &ends, carrier);
        }
    }
}

fn octets(address: Addr) -> Vec<u8> {
    match address {
        Addr::V4(address) => address.to_be_bytes().to_vec(),
        Addr::V6(address) => address.to_be_bytes().to_vec(),
    }
}

fn address(octets: &[u8]) -> Option<Addr> {
    match octets.len() {
        4 => Some(Addr::V4(u32::from_be_bytes(*octets.first_chunk()?))),
        16 => Some(Addr::V6(u128::from_be_bytes(*octets.first_chunk()?))),
        _ => None,
    }
}
