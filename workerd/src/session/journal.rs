//! What a worker tells of its sessions, for its successor: which there are, what they carry, and which are wanted.
//!
//! A successor sees packets that were held once more. Of what was forwarded, or dropped, it knows nothing but this: that the exchange was wanted whose packet left last goes for what comes until the next one begins; or for all of the session, where sessions of its protocol are one exchange, and where they go on in another protocol.
//!
//! Protobuf, as in [`crate::voip::snapshot`]: any bytes give a session or none.

use lc_daemon::calls_log::SESSION;
use prost::Message;
use shm_layout::log::LogWriter;

use super::floor::Heirloom;
use super::roster::{Carrier, Roster};
use super::sessions::{Account, Sessions};
use super::tracker::Ends;
use crate::decode::Addr;
use crate::desk::journal::read_all;
use crate::desk::verdict::Ids;
use crate::detect;

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
    /// By its name.
    #[prost(string, tag = "6")]
    protocol: String,
    #[prost(bool, tag = "7")]
    is_wanted: bool,
    #[prost(string, repeated, tag = "8")]
    ids: Vec<String>,
    #[prost(bool, tag = "9")]
    is_all: bool,
    #[prost(bool, tag = "10")]
    is_gone: bool,
    /// The packets' time, in nanoseconds.
    #[prost(uint64, tag = "11")]
    time_ns: u64,
}

impl Told {
    fn at(ends: &Ends, carrier: Carrier, time_ns: u64) -> Self {
        Self {
            client: octets(ends.client.0),
            client_port: ends.client.1.into(),
            server: octets(ends.server.0),
            server_port: ends.server.1.into(),
            is_stream: carrier == Carrier::Stream,
            time_ns,
            ..Self::default()
        }
    }

    fn of(account: &Account<'_>, time_ns: u64) -> Self {
        Self {
            protocol: account.protocol.name().to_owned(),
            is_wanted: account.wanted.is_some(),
            ids: (account.wanted.into_iter())
                .flat_map(Ids::iter)
                .map(str::to_owned)
                .collect(),
            is_all: account.is_all,
            ..Self::at(&account.ends, account.carrier, time_ns)
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

    fn heirloom(&self, client: (Addr, u16), position: u64) -> Option<Heirloom> {
        let mut protocols = detect::Protocol::ALL.iter();
        let mut ids = Ids::default();
        for id in &self.ids {
            ids.add(id);
        }
        Some(Heirloom {
            client,
            protocol: *protocols.find(|protocol| protocol.name() == self.protocol)?,
            wanted: self.is_wanted.then_some(ids),
            is_all: self.is_all,
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
                sessions.bequeath(&ends, carrier, heirloom, told.time_ns);
            }
        });
    }

    /// Tells what has changed since, as far as there is room.
    pub fn tell<R: Roster>(
        &mut self,
        log: &mut LogWriter,
        sessions: &mut Sessions<R>,
        time_ns: u64,
    ) {
        while let Some((ends, carrier)) = sessions.next_gone() {
            let told = Told {
                is_gone: true,
                ..Told::at(&ends, carrier, time_ns)
            };
            self.append(log, &told);
        }
        while let Some(id) = sessions.next_changed() {
            let Some(account) = sessions.account(id) else {
                continue;
            };
            let told = Told::of(&account, time_ns);
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
