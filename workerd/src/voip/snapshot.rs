//! A call as it stands in the calls log: for the worker's successor, for the other workers, and for steering.
//!
//! Protobuf, so that workers of different versions understand each other while one after the other is replaced: fields may be added, and what is not known is
//! passed over; what [`lc_daemon::calls_log`] says of them stays as it is. A snapshot may come from a worker that was taken over: any bytes give a call or none, within the bounds of [`Call`].

use prost::Message;

use super::call::{Call, Role};
use super::calls::Gone;
use super::dialog::State;
use super::endpoints::{Endpoint, Ends};
use super::sources::Source;
use crate::decode::Addr;
use crate::desk::verdict::Standing;
use crate::matcher::Kind;
use crate::rtp::{Content, Format};

/// What a worker tells of a call.
#[derive(Clone, PartialEq, Message)]
pub struct Snapshot {
    /// Call-ID.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// Number of a [`State`].
    #[prost(uint32, tag = "2")]
    state: u32,
    /// Number of a [`Standing`].
    #[prost(uint32, tag = "3")]
    standing: u32,
    /// Ids of the filters that match.
    #[prost(string, repeated, tag = "4")]
    pub ids: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    endpoints: Vec<ExpectedAt>,
    #[prost(message, repeated, tag = "6")]
    fields: Vec<Said>,
    #[prost(message, repeated, tag = "7")]
    pairs: Vec<Pair>,
    /// Packets that were lost by our own fault.
    #[prost(uint32, tag = "8")]
    pub incomplete: u32,
    /// Whether it is forgotten.
    #[prost(bool, tag = "9")]
    pub is_gone: bool,
    /// The packets' time when it was told, in nanoseconds.
    #[prost(uint64, tag = "10")]
    pub time_ns: u64,
    /// Whether another worker counts it.
    #[prost(bool, tag = "11")]
    pub is_others: bool,
    #[prost(message, repeated, tag = "12")]
    formats: Vec<Mapped>,
    #[prost(message, repeated, tag = "13")]
    sources: Vec<Sent>,
    #[prost(message, repeated, tag = "14")]
    ends: Vec<Between>,
    /// When its media began, if their signalling was not seen, in nanoseconds.
    #[prost(fixed64, tag = "15")]
    pub began_ns: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Sent {
    #[prost(fixed64, tag = "1")]
    time_ns: u64,
    #[prost(fixed32, tag = "2")]
    ssrc: u32,
    #[prost(fixed32, tag = "3")]
    timestamp: u32,
    /// Payload type and sequence number, unless it is a report.
    #[prost(uint32, tag = "4")]
    payload_type: u32,
    #[prost(uint32, tag = "5")]
    sequence: u32,
    #[prost(bool, tag = "6")]
    is_report: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Between {
    #[prost(message, required, tag = "1")]
    one: ExpectedAt,
    #[prost(message, required, tag = "2")]
    other: ExpectedAt,
}

#[derive(Clone, PartialEq, Message)]
struct ExpectedAt {
    #[prost(bytes = "vec", tag = "1")]
    address: Vec<u8>,
    #[prost(uint32, tag = "2")]
    port: u32,
    #[prost(uint32, tag = "3")]
    role: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Mapped {
    #[prost(uint32, tag = "1")]
    payload_type: u32,
    #[prost(uint32, tag = "2")]
    clock_rate: u32,
    #[prost(uint32, tag = "3")]
    content: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Said {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(bytes = "vec", tag = "2")]
    text: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(bytes = "vec", tag = "1")]
    source: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    destination: Vec<u8>,
}

impl Snapshot {
    /// A call as it is now.
    #[must_use]
    pub fn of(call: &Call) -> Self {
        let endpoints = call.endpoints.iter();
        Self {
            id: call.id.to_vec(),
            state: call.state() as u32,
            standing: call.standing as u32,
            ids: call.ids.iter().map(str::to_owned).collect(),
            endpoints: endpoints
                .map(|(endpoint, role)| ExpectedAt::new(*endpoint, *role))
                .collect(),
            fields: (call.identities.fields())
                .map(|(kind, text)| Said {
                    kind: kind as u32,
                    text: text.to_vec(),
                })
                .collect(),
            pairs: (call.identities.pairs())
                .map(|(source, destination)| Pair {
                    source: octets(source),
                    destination: octets(destination),
                })
                .collect(),
            incomplete: call.incomplete,
            is_gone: false,
            time_ns: 0,
            is_others: call.is_others,
            formats: (call.formats.iter())
                .map(|format| Mapped {
                    payload_type: format.payload_type.into(),
                    clock_rate: format.clock_rate,
                    content: format.content as u32,
                })
                .collect(),
            sources: call.sources.iter().map(Sent::new).collect(),
            ends: call.ends.iter().map(Between::new).collect(),
            began_ns: call.began_ns,
        }
    }

    /// That a call is forgotten.
    #[must_use]
    pub fn gone(gone: &Gone) -> Self {
        let state = match gone.alone {
            Some(_) => State::MediaOnly,
            None => State::default(),
        };
        Self {
            id: gone.id.to_vec(),
            state: state as u32,
            ends: gone.alone.iter().map(Between::new).collect(),
            is_gone: true,
            ..Self::default()
        }
    }

    /// The ends of its flow, if it is media without signalling.
    #[must_use]
    pub fn alone(&self) -> Option<Ends> {
        let is_alone = self.state() == State::MediaOnly;
        self.ends().next().filter(|_| is_alone)
    }

    /// Both ends of flows that are its though nobody announced one.
    pub fn ends(&self) -> impl Iterator<Item = Ends> {
        let ends = self.ends.iter();
        ends.filter_map(|between| Some((between.one.endpoint()?, between.other.endpoint()?)))
    }

    /// What its sources sent first.
    pub fn sources(&self) -> impl Iterator<Item = Source> {
        self.sources.iter().filter_map(|sent| {
            let payload_type = u8::try_from(sent.payload_type).ok()?;
            let sequence = u16::try_from(sent.sequence).ok()?;
            Some(Source {
                time_ns: sent.time_ns,
                ssrc: sent.ssrc,
                timestamp: sent.timestamp,
                packet: (!sent.is_report).then_some((payload_type, sequence)),
            })
        })
    }

    /// How far the call has come.
    #[must_use]
    pub fn state(&self) -> State {
        let state = State::ALL.get(self.state as usize);
        state.copied().unwrap_or_default()
    }

    /// Whether it is wanted.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let all = [
            Standing::Undecided,
            Standing::Unwanted,
            Standing::Passed,
            Standing::Matched,
        ];
        let standing = all.get(self.standing as usize);
        standing.copied().unwrap_or_default()
    }

    /// Where its media are expected.
    pub fn endpoints(&self) -> impl Iterator<Item = (Endpoint, Role)> {
        self.endpoints.iter().filter_map(|expected| {
            let role = match expected.role {
                0 => Role::Media,
                1 => Role::Control,
                _ => Role::Other,
            };
            Some((expected.endpoint()?, role))
        })
    }

    /// What its messages said that filters are compared with.
    pub fn fields(&self) -> impl Iterator<Item = (Kind, &[u8])> {
        let fields = self.fields.iter();
        fields.filter_map(|said| Some((*Kind::ALL.get(said.kind as usize)?, &*said.text)))
    }

    /// What its session descriptions say of payload types.
    pub fn formats(&self) -> impl Iterator<Item = Format> {
        self.formats.iter().filter_map(|mapped| {
            let content = match mapped.content {
                1 => Content::Event,
                2 => Content::Noise,
                _ => Content::Media,
            };
            Some(Format {
                payload_type: u8::try_from(mapped.payload_type).ok()?,
                clock_rate: mapped.clock_rate,
                content,
            })
        })
    }

    /// The addresses that its packets went between.
    pub fn pairs(&self) -> impl Iterator<Item = (Addr, Addr)> {
        let pairs = self.pairs.iter();
        pairs.filter_map(|pair| Some((address(&pair.source)?, address(&pair.destination)?)))
    }
}

impl ExpectedAt {
    fn new((address, port): Endpoint, role: Role) -> Self {
        Self {
            address: octets(address),
            port: u32::from(port),
            role: role as u32,
        }
    }

    fn endpoint(&self) -> Option<Endpoint> {
        Some((address(&self.address)?, u16::try_from(self.port).ok()?))
    }
}

impl Between {
    fn new((one, other): &Ends) -> Self {
        Self {
            one: ExpectedAt::new(*one, Role::Media),
            other: ExpectedAt::new(*other, Role::Media),
        }
    }
}

impl Sent {
    fn new(source: &Source) -> Self {
        let (payload_type, sequence) = source.packet.unwrap_or_default();
        Self {
            time_ns: source.time_ns,
            ssrc: source.ssrc,
            timestamp: source.timestamp,
            payload_type: payload_type.into(),
            sequence: sequence.into(),
            is_report: source.packet.is_none(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matcher::Fields;
    use std::net::IpAddr;

    use lc_daemon::calls_log::media_endpoints;
    use proptest::prelude::*;

    #[test]
    fn a_call_is_told_whole() {
        let mut call = Call {
            id: (*b"a@b").into(),
            standing: Standing::Matched,
            endpoints: vec![
                ((Addr::V4(7), 4000), Role::Media),
                ((Addr::V6(7), 4001), Role::Control),
            ],
            ..Call::default()
        };
        call.ids.add("f1");
        let mut fields = Fields::default();
        fields.push(Kind::Codec, b"pcma");
        let pair = (Addr::V4(1), Addr::V6(2));
        call.identities.add(Some(pair), &fields);
        let record = Snapshot::of(&call).encode_to_vec();
        let expected = [
            (IpAddr::from([0, 0, 0, 7]), 4000),
            (IpAddr::from(7u128.to_be_bytes()), 4001),
        ];
        assert!(media_endpoints(&record).eq(expected));
        let told = Snapshot::decode(&*Snapshot::of(&call).encode_to_vec()).unwrap();
        assert_eq!(
            (&told.id[..], &told.ids[..]),
            (&b"a@b"[..], &["f1".to_owned()][..])
        );
        assert_eq!(
            (told.state(), told.standing()),
            (call.state(), Standing::Matched)
        );
        assert_eq!(told.endpoints().collect::<Vec<_>>(), call.endpoints);
        assert_eq!(
            told.fields().collect::<Vec<_>>(),
            [(Kind::Codec, &b"pcma"[..])]
        );
        assert_eq!(told.pairs().collect::<Vec<_>>(), [pair]);
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_call_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(told) = Snapshot::decode(&*bytes) {
                let _ = (told.state(), told.standing());
                prop_assert!(told.endpoints().count() <= bytes.len());
            }
        }
    }
}
