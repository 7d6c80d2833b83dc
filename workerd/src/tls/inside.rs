//! What is said over TLS, for another protocol to follow: the records of a connection are decrypted with the secrets that [`Inside::learn`] was given.
//!
//! Places are told as those of the encrypted stream, so that packets are forwarded as they came. A record that is of two exchanges counts for the second one, but for its header. What cannot be read is of the session as a whole:
//! without secrets, with a suite or version that is not decrypted, and behind bytes that are missing. Records wait for secrets that come late, within bounds.

use std::collections::VecDeque;

use super::decrypt::{Agreement, Opened, Opener};
use super::handshake::{Messages, kind};
use super::held::{Held, Room};
use super::hello::{Carrier, ClientHello, ServerHello};
use super::keylog::Entry;
use super::record::{Content as Kind, Header, NoRecord};
use super::secrets::Store;
use super::version::hides_handshake;
use crate::flows::Direction;
use crate::matcher::{self, Kinds};
use crate::reassembly::Event;
use crate::session::{At, Content, Course, Exchange, Note, Protocol, Tell};

/// Bytes of a record's header.
const HEADER: usize = 5;
/// Most bytes of a direction that wait for secrets, or for the end of a record.
const MOST_WAITING: usize = 128 << 10;
/// Most bytes that wait, of all connections.
const ROOM: usize = 64 << 20;
/// Records whose place is remembered until they are claimed.
const MOST_RECORDS: usize = 1024;

/// A protocol within TLS.
#[derive(Debug)]
pub struct Inside<P> {
    protocol: P,
    secrets: Store,
    room: Room,
}

/// What is remembered of a connection.
#[derive(Debug, Default)]
pub struct State<S> {
    inner: S,
    sides: [Side; 2],
    hellos: Hellos,
}

/// What the two sides have agreed on.
#[derive(Debug, Default)]
struct Hellos {
    /// Of the client: its random, and which direction it sends in.
    client: Option<([u8; 32], Direction)>,
    server: Option<Answer>,
    /// Whether the server has chosen a version that hides most of the handshake.
    hides_handshake: bool,
}

/// What counts of a ServerHello.
#[derive(Debug)]
struct Answer {
    random: [u8; 32],
    version: u16,
    cipher: u16,
    encrypts_then_authenticates: bool,
}

/// One direction.
#[derive(Debug, Default)]
struct Side {
    /// Bytes from the start of a record on, and where they stand.
    waiting: Held,
    start: u64,
    messages: Messages,
    /// Whether everything is encrypted from here on; of TLS 1.2.
    is_encrypted: bool,
    opener: Option<Opener>,
    /// Bytes that were decrypted.
    plain: u64,
    records: VecDeque<Record>,
    is_over: bool,
}

/// Where the content of a record stands.
#[derive(Debug, Clone, Copy)]
struct Record {
    /// First byte and end of the content.
    plain: (u64, u64),
    /// Where its first byte stands in the stream, encrypted, and where the record ends.
    place: (u64, u64),
}

impl<P: Protocol> Inside<P> {
    /// `protocol`, as it is spoken within TLS. No secrets are known.
    pub fn new(protocol: P) -> Self {
        Self {
            protocol,
            secrets: Store::default(),
            room: Room::new(ROOM),
        }
    }

    /// The protocol within.
    pub fn protocol(&self) -> &P {
        &self.protocol
    }

    /// Takes in a secret, at the time `now_ns`.
    pub fn learn(&mut self, entry: &Entry, now_ns: u64) {
        self.secrets.add(entry, now_ns);
    }

    /// Bytes that wait.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.room.used()
    }

    /// Reads what waits in a direction, as far as it can be read.
    fn read(&mut self, at: &At, state: &mut State<P::State>, tell: &mut impl Tell) -> Course {
        let (hellos, side) = (&mut state.hellos, &mut state.sides[at.direction as usize]);
        loop {
            let (header, mut content) = match side.next() {
                Ok(Some(record)) => record,
                Ok(None) => return Course::Follow,
                Err(NoRecord) => return side.gives_up(),
            };
            let place = side.start + HEADER as u64;
            let end = place + content.len() as u64;
            let is_change = header.content == Kind::ChangeCipherSpec;
            if is_change || header.content != Kind::Data && !side.is_encrypted {
                side.is_encrypted |= is_change && !hellos.hides_handshake;
                if header.content == Kind::Handshake {
                    hellos.take(at.direction, &mut side.messages, &content, &self.room);
                }
                side.drop_first(content.len(), end);
                if side.records.is_empty() {
                    tell.belongs(None, end);
                }
                continue;
            }
            if side.opener.is_none() {
                side.opener = hellos.opener(at, &mut self.secrets);
            }
            let Some(opener) = &mut side.opener else {
                // The secrets may come yet.
                return Course::Follow;
            };
            let opened = opener.open(header, &mut content);
            side.drop_first(content.len(), end);
            let is_data =
                |opened: &Opened| opened.content == Kind::Data && !opened.range.is_empty();
            let Some(Opened { range, .. }) = opened.filter(is_data) else {
                if side.records.is_empty() {
                    tell.belongs(None, end);
                }
                continue;
            };
            let offset = side.plain;
            side.plain += range.len() as u64;
            if side.records.len() == MOST_RECORDS {
                side.records.pop_front();
            }
            side.records.push_back(Record {
                plain: (offset, side.plain),
                place: (place + range.start as u64, end),
            });
            let mut tell = Translator {
                tell: &mut *tell,
                records: &mut side.records,
            };
            let bytes = &content[range];
            let event = Event::Data { offset, bytes };
            match within(self.protocol.stream(at, &mut state.inner, event, &mut tell)) {
                Course::Follow => {}
                course => return course,
            }
        }
    }
}

impl<P: Protocol> Protocol for Inside<P> {
    type State = State<P::State>;

    fn has_content_filter(&self) -> bool {
        self.protocol.has_content_filter()
    }

    /// Datagrams of DTLS and QUIC are not decrypted.
    fn datagram(&mut self, _: &At, _: &mut Self::State, _: &[u8], _: &mut impl Tell) -> Course {
        Course::RestOfBoth(None)
    }

    fn stream(
        &mut self,
        at: &At,
        state: &mut Self::State,
        event: Event<'_>,
        tell: &mut impl Tell,
    ) -> Course {
        let side = &mut state.sides[at.direction as usize];
        if side.is_over {
            return Course::Rest(None);
        }
        match event {
            Event::Data { offset, bytes } => {
                if side.waiting.bytes().is_empty() {
                    side.start = offset;
                }
                let fits = side.waiting.bytes().len() + bytes.len() <= MOST_WAITING;
                if !fits || !side.waiting.extend(bytes, &self.room) {
                    return side.gives_up();
                }
                self.read(at, state, tell)
            }
            Event::Gap { .. } => side.gives_up(),
            Event::End { reason, .. } => {
                match self.read(at, state, tell) {
                    Course::Follow => {}
                    course => return course,
                }
                let side = &mut state.sides[at.direction as usize];
                let offset = side.plain;
                let mut tell = Translator {
                    tell,
                    records: &mut side.records,
                };
                let event = Event::End { offset, reason };
                within(self.protocol.stream(at, &mut state.inner, event, &mut tell))
            }
        }
    }
}

/// How the connection goes on when the protocol within goes on so.
fn within(course: Course) -> Course {
    match course {
        // What follows is still encrypted.
        Course::Becomes(_, exchange) => Course::RestOfBoth(Some(exchange)),
        Course::Foreign => Course::RestOfBoth(None),
        course => course,
    }
}

impl Side {
    /// The next whole record: its header and a copy of its content.
    fn next(&self) -> Result<Option<(Header, Vec<u8>)>, NoRecord> {
        let Some((head, rest)) = self.waiting.bytes().split_first_chunk() else {
            return Ok(None);
        };
        let header = Header::read(head).ok_or(NoRecord)?;
        let content = rest.get(..header.len.into());
        Ok(content.map(|content| (header, content.to_vec())))
    }

    /// Forgets the first record, which ends at `end`.
    fn drop_first(&mut self, content: usize, end: u64) {
        self.waiting.drop_first(HEADER + content);
        self.start = end;
    }

    /// Nothing more can be read.
    fn gives_up(&mut self) -> Course {
        self.is_over = true;
        self.waiting.clear();
        Course::Rest(None)
    }
}

impl Hellos {
    /// Takes in a record in clear.
    fn take(&mut self, direction: Direction, messages: &mut Messages, content: &[u8], room: &Room) {
        let mut rest = content;
        while let Some(message) = messages.next(&mut rest, room) {
            let Some(body) = message.body else { continue };
            match message.kind {
                kind::CLIENT_HELLO => {
                    let hello = ClientHello::read(body, Carrier::Stream);
                    self.client = hello.map(|hello| (*hello.random, direction));
                }
                kind::SERVER_HELLO => {
                    let hello = ServerHello::read(body);
                    self.hides_handshake = hello
                        .as_ref()
                        .is_some_and(|hello| hides_handshake(hello.chosen_version()));
                    let hello = hello.filter(|hello| !hello.is_retry());
                    self.server = hello.map(|hello| Answer {
                        random: *hello.random,
                        version: hello.chosen_version(),
                        cipher: hello.cipher,
                        encrypts_then_authenticates: hello.encrypts_then_authenticates(),
                    });
                }
                _ => {}
            }
        }
    }

    /// What decrypts a direction; none as long as secrets are missing.
    fn opener(&self, at: &At, secrets: &mut Store) -> Option<Opener> {
        let (client, server) = (self.client.as_ref()?, self.server.as_ref()?);
        let secrets = secrets.get(&client.0, at.time_ns)?;
        let agreement = Agreement {
            version: server.version,
            cipher: server.cipher,
            client_random: &client.0,
            server_random: &server.random,
            encrypts_then_authenticates: server.encrypts_then_authenticates,
        };
        let is_usable = secrets.are_usable();
        is_usable.then(|| Opener::new(&agreement, secrets, at.direction == client.1))?
    }
}

/// Tells of the encrypted stream what is told of the one within.
struct Translator<'t, T: Tell> {
    tell: &'t mut T,
    records: &'t mut VecDeque<Record>,
}

impl<T: Tell> Translator<'_, T> {
    /// Where the byte at `offset` stands, or its record.
    fn place(&self, offset: u64) -> Option<u64> {
        let mut records = self.records.iter();
        let record = records.find(|record| (record.plain.0..record.plain.1).contains(&offset))?;
        Some(record.place.0 + offset - record.plain.0)
    }
}

impl<T: Tell> Tell for Translator<'_, T> {
    fn begin(&mut self) -> Exchange {
        self.tell.begin()
    }

    fn belongs(&mut self, exchange: Option<Exchange>, end: u64) {
        let mut claimed = None;
        while let Some(record) = self.records.front().filter(|record| record.plain.1 <= end) {
            claimed = Some(record.place.1);
            self.records.pop_front();
        }
        // Part of a record: its header.
        if let Some(record) = self.records.front().filter(|record| record.plain.0 < end) {
            claimed = Some(record.place.0);
        }
        if let Some(end) = claimed {
            self.tell.belongs(exchange, end);
        }
    }

    fn wanted(&self) -> Kinds {
        self.tell.wanted()
    }

    fn compare(&mut self, exchange: Exchange, kind: matcher::Kind, text: &[u8]) {
        self.tell.compare(exchange, kind, text);
    }

    fn content(&mut self, exchange: Exchange, content: Content) {
        self.tell.content(exchange, content);
    }

    fn note(&mut self, exchange: Exchange, offset: u64, note: Note<'_>) {
        if let Some(place) = self.place(offset) {
            self.tell.note(exchange, place, note);
        }
    }

    fn about(&mut self, exchange: Exchange, note: Note<'_>) {
        self.tell.about(exchange, note);
    }

    fn is_unwanted(&self, exchange: Exchange) -> bool {
        self.tell.is_unwanted(exchange)
    }

    fn settle(&mut self, exchange: Exchange) {
        self.tell.settle(exchange);
    }
}
