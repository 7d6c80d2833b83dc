//! The TCP connections of a capture, as a protocol tells of them.

use lc_tests::traces::Trace;
use lc_workerd::decode::{Addr, Transport, decode};
use lc_workerd::flows::{FlowTable, Seed, Signal, Timeouts, Zone};
use lc_workerd::reassembly::{
    ConnectionId, Consumer, Event, Interest, Limits, Segment, Stream, Streams,
};
use lc_workerd::session::script::{Recorder, Told};
use lc_workerd::session::{At, Course, Ends, Protocol};

/// What `protocol` tells of all TCP connections of a capture, whatever they carry.
pub fn told(protocol: impl Protocol, trace: &Trace) -> Vec<Told> {
    let mut flows =
        FlowTable::<Option<ConnectionId>>::new(1 << 20, Seed::known(1), &Timeouts::default())
            .unwrap();
    let mut streams = Streams::new(&Limits::default()).unwrap();
    let mut reader = Reader {
        protocol,
        recorder: Recorder::default(),
        time_ns: 0,
    };
    for packet in &trace.packets().unwrap() {
        let decoded = decode(packet.link_type as u16, &packet.bytes);
        if decoded.transport != Some(Transport::Tcp) || decoded.fault.is_some() {
            continue;
        }
        let Some(probe) = flows.probe(&decoded, Zone::NONE) else {
            continue;
        };
        let (header, payload) = (
            &packet.bytes[decoded.header..],
            decoded.payload_of(&packet.bytes),
        );
        reader.time_ns = packet.time_ns as u64;
        let flow = flows.observe(&probe, reader.time_ns, Signal::of_tcp_flags(header[13]));
        let segment = Segment::read(header, payload, flow.direction, reader.time_ns, None).unwrap();
        streams.segment(flow.memory, &segment, &mut reader);
        streams.advance(&mut reader);
    }
    streams.close_all(&mut reader);
    reader.recorder.told
}

/// The protocol, and what it tells.
struct Reader<P> {
    protocol: P,
    recorder: Recorder,
    time_ns: u64,
}

/// A session, and the directions that are of no interest any more.
struct State<S> {
    session: S,
    rest: [bool; 2],
}

impl<S: Default> Default for State<S> {
    fn default() -> Self {
        Self {
            session: S::default(),
            rest: [false; 2],
        }
    }
}

impl<P: Protocol> Consumer for Reader<P> {
    type State = State<P::State>;

    fn take(&mut self, stream: Stream<'_, Self::State>, event: Event<'_>) -> Interest {
        let end = (Addr::V4(0), 0);
        let at = At {
            direction: stream.direction,
            ends: Ends {
                client: end,
                server: end,
            },
            time_ns: self.time_ns,
        };
        let State { session, rest } = stream.state;
        if rest[stream.direction as usize] {
            return Interest::Follow;
        }
        self.recorder.direction = stream.direction;
        match self
            .protocol
            .stream(&at, session, event, &mut self.recorder)
        {
            Course::Follow | Course::Wait => {}
            Course::Rest(_) => rest[stream.direction as usize] = true,
            Course::RestOfBoth(_) | Course::Becomes(..) | Course::Foreign => *rest = [true; 2],
        }
        Interest::Follow
    }
}
