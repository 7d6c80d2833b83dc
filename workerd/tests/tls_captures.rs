//! Hellos of real captures, as the tracker tells them: server names, JA3, JA3S and JA4 as TShark has them.
//!
//! The captures are those of [`lc_tests::traces`].

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use lc_proto::data::PacketMetadata;
use lc_tests::compare;
use lc_tests::traces::{self, Trace};
use lc_tests::tshark;
use lc_workerd::decode::{Addr, Transport, decode};
use lc_workerd::extract::tls::may_begin;
use lc_workerd::flows::{Direction, FlowTable, Seed, Signal, Timeouts, Zone};
use lc_workerd::reassembly::{
    ConnectionId, Consumer, Event, Interest, Limits, Segment, Stream, Streams,
};
use lc_workerd::session::script::{Recorder, Told};
use lc_workerd::session::{At, Course, Ends, Protocol};
use lc_workerd::tls::{Extent, Tls};
use prost::Message;
use serde_json::Value;

/// How often which hello was said: server name, JA3 and JA4 of a client's, JA3S of a server's.
type Hellos = BTreeMap<(String, String, String), usize>;

#[test]
fn hellos_are_told_as_they_were_said() {
    let Some(captures) = traces::all().unwrap() else {
        return;
    };
    let mut different = Vec::new();
    let (mut files, mut hellos) = (0, 0);
    for trace in captures {
        let facts = &trace.facts;
        if facts["tls"].is_null() || !trace.is_strict() {
            continue;
        }
        let expected = expected(&facts["tls"]);
        files += 1;
        hellos += expected.values().sum::<usize>();
        let differences = compare::counts(&expected, &tell(&trace));
        if !differences.is_empty() && !trace.is_in(tshark::TLS) {
            different.push(format!("{}: {}", trace.name(), differences.join("\n    ")));
        }
    }
    println!("{files} captures, {hellos} hellos");
    assert!(
        different.is_empty(),
        "{} files\n{}",
        different.len(),
        different.join("\n")
    );
}

fn expected(tls: &Value) -> Hellos {
    let mut hellos = Hellos::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let is_read =
        |hello: &&Value| ["tcp", "dtls", "quic"].contains(&hello["transport"].as_str().unwrap());
    for hello in tls["client_hello_list"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(is_read)
    {
        let key = (
            text(&hello["sni"]),
            text(&hello["ja3"]),
            text(&hello["ja4"]),
        );
        *hellos.entry(key).or_default() += 1;
    }
    for hello in tls["server_hello_list"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(is_read)
    {
        let key = (String::new(), text(&hello["ja3s"]), String::new());
        *hellos.entry(key).or_default() += 1;
    }
    hellos
}

/// What is remembered of a connection.
#[derive(Default)]
struct Session {
    state: <Tls as Protocol>::State,
    has_begun: bool,
    is_over: [bool; 2],
}

impl Session {
    fn follow(&mut self, direction: Direction, course: Course) {
        match course {
            Course::Follow => {}
            Course::Rest(_) => self.is_over[direction as usize] = true,
            Course::Foreign => *self = Self::default(),
            _ => self.is_over = [true, true],
        }
    }
}

struct Reader {
    tls: Tls,
    recorder: Recorder,
    at: At,
}

impl Consumer for Reader {
    type State = Session;

    /// A connection is TLS from its first hello on, as with STARTTLS.
    fn take(&mut self, stream: Stream<'_, Session>, event: Event<'_>) -> Interest {
        let session = stream.state;
        if let Event::Data { bytes, .. } = event {
            session.has_begun |= may_begin(bytes) || bytes.starts_with(b"PROXY");
        }
        let is_begin = matches!(event, Event::Gap { offset: 0, .. });
        if (session.has_begun || is_begin) && !session.is_over[stream.direction as usize] {
            self.at.direction = stream.direction;
            let course = self
                .tls
                .stream(&self.at, &mut session.state, event, &mut self.recorder);
            session.follow(stream.direction, course);
        }
        Interest::Follow
    }
}

fn tell(trace: &Trace) -> Hellos {
    let mut flows = FlowTable::<(Option<ConnectionId>, usize)>::new(
        1 << 20,
        Seed::known(1),
        &Timeouts::default(),
    )
    .unwrap();
    let mut streams = Streams::new(&Limits::default()).unwrap();
    let nobody = (Addr::V4(0), 0);
    let mut reader = Reader {
        tls: Tls::new(Extent::Full),
        recorder: Recorder::default(),
        at: At {
            direction: Direction::Request,
            ends: Ends {
                client: nobody,
                server: nobody,
            },
            time_ns: 0,
        },
    };
    let mut datagrams: Vec<Session> = vec![Session::default()];
    for packet in &trace.packets().unwrap() {
        let decoded = decode(packet.link_type as u16, &packet.bytes);
        let Some(probe) = flows.probe(&decoded, Zone::NONE) else {
            continue;
        };
        let time_ns = packet.time_ns as u64;
        reader.at.time_ns = time_ns;
        let payload = decoded.payload_of(&packet.bytes);
        match decoded.transport {
            Some(Transport::Tcp) if decoded.fault.is_none() => {
                let header = &packet.bytes[decoded.header..];
                let signal = Signal::of_tcp_flags(header[13]);
                let flow = flows.observe(&probe, time_ns, signal);
                let segment =
                    Segment::read(header, payload, flow.direction, time_ns, None).unwrap();
                streams.segment(&mut flow.memory.0, &segment, &mut reader);
                streams.advance(&mut reader);
            }
            Some(Transport::Udp) if decoded.fault.is_none() && !payload.is_empty() => {
                let flow = flows.observe(&probe, time_ns, Signal::None);
                if flow.memory.1 == 0 {
                    flow.memory.1 = datagrams.len();
                    datagrams.push(Session::default());
                }
                let session = &mut datagrams[flow.memory.1];
                if !session.is_over[flow.direction as usize] {
                    reader.at.direction = flow.direction;
                    let Reader { tls, recorder, at } = &mut reader;
                    let course = tls.datagram(at, &mut session.state, payload, recorder);
                    session.follow(flow.direction, course);
                }
            }
            _ => {}
        }
    }
    streams.close_all(&mut reader);
    hellos(&reader.recorder.told)
}

/// The hellos among what was told.
fn hellos(told: &[Told]) -> Hellos {
    let mut hellos = Hellos::new();
    for told in told {
        let Told::Note { details, .. } = told else {
            continue;
        };
        let details = PacketMetadata::decode(&details[..]).unwrap().details;
        let text = |key: &str| details.get(key).cloned().unwrap_or_default();
        let key = match text("tls.ja3s") {
            ja3s if !ja3s.is_empty() => (String::new(), ja3s, String::new()),
            _ => (text("tls.sni"), text("tls.ja3"), text("tls.ja4")),
        };
        if !key.1.is_empty() {
            *hellos.entry(key).or_default() += 1;
        }
    }
    hellos
}
