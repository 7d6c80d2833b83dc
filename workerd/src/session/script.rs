//! For tests and checks of protocols, of this crate and those that use it: [`Script`] plays what was said, [`Recorder`] keeps what is told.

use shm_layout::counters::WorkerCounter as Counter;

use super::tracker::{At, Content, Course, Ends, Exchange, Note, Protocol, Tell};
use crate::decode::Addr;
use crate::flows::Direction;
use crate::matcher::{Kind, Kinds};
use crate::reassembly::{End, Event};

/// What a protocol has told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// [`Tell::begin`]
    Begin(Exchange),
    /// [`Tell::belongs`]
    Belongs(Direction, Option<Exchange>, u64),
    /// [`Tell::compare`]
    Compare(Exchange, Kind, String),
    /// [`Tell::content`]
    Content(Exchange, Content),
    /// [`Tell::note`]
    Note {
        /// Whose.
        exchange: Exchange,
        /// Of which direction.
        direction: Direction,
        /// Of which packet.
        offset: u64,
        /// The name of the protocol.
        protocol: &'static str,
        /// A line for people.
        info: String,
        /// Encoded.
        details: Vec<u8>,
        /// Encoded.
        blocks: Vec<u8>,
    },
    /// [`Tell::about`]
    About {
        /// What all packets of it are told.
        exchange: Exchange,
        /// The name of the protocol.
        protocol: &'static str,
        /// A line for people.
        info: String,
        /// Encoded.
        details: Vec<u8>,
        /// Encoded.
        blocks: Vec<u8>,
    },
    /// [`Tell::settle`]
    Settle(Exchange),
    /// What [`Protocol::datagram`] or [`Protocol::stream`] has returned, if that was not [`Course::Follow`].
    Course(Direction, Course),
}

/// Wants to be told everything, and keeps it in order, without bounds.
#[derive(Debug)]
pub struct Recorder {
    /// The direction at hand, which the caller sets.
    pub direction: Direction,
    /// All that was told.
    pub told: Vec<Told>,
    /// All that was counted.
    pub counted: Vec<Counter>,
    begun: u64,
}

/// Plays one session.
pub struct Script<'p, P: Protocol> {
    protocol: &'p mut P,
    state: P::State,
    at: At,
    offsets: [u64; 2],
    begun: u64,
    /// All that was told, in order.
    pub told: Vec<Told>,
    /// All that was counted.
    pub counted: Vec<Counter>,
}

impl<'p, P: Protocol> Script<'p, P> {
    /// A session of `protocol` between 192.0.2.1 and `server_port` of 192.0.2.2.
    pub fn new(protocol: &'p mut P, server_port: u16) -> Self {
        Self::of(protocol, server_port, P::State::default())
    }

    /// The same, of a session that goes on in `state`.
    pub fn of(protocol: &'p mut P, server_port: u16, state: P::State) -> Self {
        let address = |last| Addr::V4(u32::from_be_bytes([192, 0, 2, last]));
        let ends = Ends {
            client: (address(1), 40_000),
            server: (address(2), server_port),
        };
        let at = At {
            direction: Direction::Request,
            ends,
            time_ns: 1_767_225_600_000_000_000,
        };
        Self {
            protocol,
            state,
            at,
            offsets: [0; 2],
            begun: 0,
            told: Vec::new(),
            counted: Vec::new(),
        }
    }

    /// What the protocol remembers of the session.
    pub fn into_state(self) -> P::State {
        self.state
    }

    /// The same, while it goes on.
    pub fn state(&self) -> &P::State {
        &self.state
    }

    /// How much has come of a direction, in bytes; what was missing counts.
    pub fn come(&self, direction: Direction) -> u64 {
        self.offsets[direction as usize]
    }

    /// `milliseconds` later.
    pub fn later(&mut self, milliseconds: u64) -> &mut Self {
        self.at.time_ns += milliseconds * 1_000_000;
        self
    }

    /// The next bytes of a direction have this offset.
    pub fn at(&mut self, direction: Direction, offset: u64) -> &mut Self {
        self.offsets[direction as usize] = offset;
        self
    }

    /// A datagram.
    pub fn datagram(&mut self, direction: Direction, payload: &[u8]) -> &mut Self {
        let _ = self.play(direction, |protocol, at, state, tell| {
            protocol.datagram(at, state, payload, tell)
        });
        self
    }

    /// The next bytes of a direction.
    pub fn bytes(&mut self, direction: Direction, bytes: &[u8]) -> &mut Self {
        let offset = self.offsets[direction as usize];
        self.offsets[direction as usize] += bytes.len() as u64;
        self.event(direction, Event::Data { offset, bytes })
    }

    /// The next bytes of a direction, `size` at a time.
    pub fn pieces(&mut self, direction: Direction, bytes: &[u8], size: usize) -> &mut Self {
        for piece in bytes.chunks(size) {
            self.bytes(direction, piece);
        }
        self
    }

    /// Bytes are missing.
    pub fn gap(&mut self, direction: Direction, len: Option<u64>) -> &mut Self {
        let offset = self.offsets[direction as usize];
        self.offsets[direction as usize] += len.unwrap_or(0);
        self.event(direction, Event::Gap { offset, len })
    }

    /// The direction ends.
    pub fn end(&mut self, direction: Direction, reason: End) -> &mut Self {
        let offset = self.offsets[direction as usize];
        self.event(direction, Event::End { offset, reason })
    }

    fn event(&mut self, direction: Direction, event: Event<'_>) -> &mut Self {
        let course = self.play(direction, |protocol, at, state, tell| {
            protocol.stream(at, state, event, tell)
        });
        if course == Course::Wait && self.protocol.can_go_on(&self.state) {
            self.go_on();
        }
        self
    }

    /// A session goes on that waits. What came since is not told again.
    pub fn go_on(&mut self) -> &mut Self {
        for direction in [Direction::Request, Direction::Response] {
            let _ = self.play(direction, |protocol, at, state, tell| {
                protocol.go_on(at, state, tell)
            });
        }
        self
    }

    /// The protocol.
    pub fn protocol(&mut self) -> &mut P {
        self.protocol
    }

    fn play(
        &mut self,
        direction: Direction,
        play: impl FnOnce(&mut P, &At, &mut P::State, &mut Recorder) -> Course,
    ) -> Course {
        self.at.direction = direction;
        let mut recorder = Recorder {
            direction,
            told: std::mem::take(&mut self.told),
            counted: std::mem::take(&mut self.counted),
            begun: self.begun,
        };
        let course = play(self.protocol, &self.at, &mut self.state, &mut recorder);
        recorder.course(course);
        (self.told, self.begun) = (recorder.told, recorder.begun);
        self.counted = recorder.counted;
        course
    }
}

impl Default for Recorder {
    /// Nothing was told.
    fn default() -> Self {
        Self {
            direction: Direction::Request,
            told: Vec::new(),
            counted: Vec::new(),
            begun: 0,
        }
    }
}

impl Recorder {
    /// Keeps how a session goes on, unless it is as before.
    pub fn course(&mut self, course: Course) {
        if course != Course::Follow {
            self.told.push(Told::Course(self.direction, course));
        }
    }
}

impl Tell for Recorder {
    fn begin(&mut self) -> Exchange {
        let exchange = Exchange(self.begun);
        self.begun += 1;
        self.told.push(Told::Begin(exchange));
        exchange
    }

    fn belongs(&mut self, exchange: Option<Exchange>, end: u64) {
        self.told.push(Told::Belongs(self.direction, exchange, end));
    }

    fn wanted(&self) -> Kinds {
        Kinds::ALL
    }

    fn compare(&mut self, exchange: Exchange, kind: Kind, text: &[u8]) {
        let text = String::from_utf8_lossy(text).into_owned();
        self.told.push(Told::Compare(exchange, kind, text));
    }

    fn content(&mut self, exchange: Exchange, content: Content) {
        self.told.push(Told::Content(exchange, content));
    }

    fn note(&mut self, exchange: Exchange, offset: u64, note: Note<'_>) {
        self.told.push(Told::Note {
            exchange,
            direction: self.direction,
            offset,
            protocol: note.protocol,
            info: note.info.into(),
            details: note.details.to_vec(),
            blocks: note.blocks.to_vec(),
        });
    }

    fn about(&mut self, exchange: Exchange, note: Note<'_>) {
        self.told.push(Told::About {
            exchange,
            protocol: note.protocol,
            info: note.info.into(),
            details: note.details.to_vec(),
            blocks: note.blocks.to_vec(),
        });
    }

    fn count(&mut self, counter: Counter) {
        self.counted.push(counter);
    }

    fn settle(&mut self, exchange: Exchange) {
        self.told.push(Told::Settle(exchange));
    }
}
