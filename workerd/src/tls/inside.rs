//! What is said over TLS, for another protocol to follow: the records of a connection are decrypted with the secrets that [`Inside::learn`] was given.
//!
//! Places are told as those of the encrypted stream, so that packets are forwarded as they came. A record that is of two exchanges counts for the second one, but for its header. What cannot be read is of the session as a whole:
//! with a suite or version that is not decrypted, and behind bytes that are missing. A session whose secrets are not known waits for them ([`Course::Wait`]); if they don't come, nothing of it is told.
//! A record that does not open is a gap to the protocol within.

use std::collections::VecDeque;

use lc_daemon::key_log::{Entry, Label};
use shm_layout::counters::WorkerCounter as Counter;

use super::decrypt::{Agreement, Opened, Opener};
use super::handshake::{Messages, kind};
use super::held::{Held, Room};
use super::hello::{Carrier, ClientHello, ServerHello};
use super::record::{Content as Kind, Header, NoRecord};
use super::secrets::{SessionKeys, Store};
use super::version::hides_handshake;
use crate::flows::Direction;
use crate::matcher::{self, Kinds};
use crate::reassembly::Event;
use crate::session::{At, Content, Course, Exchange, Note, Protocol, Tell};

/// Bytes of a record's header.
const HEADER: usize = 5;
/// Most bytes of a direction that wait for the end of a record, or of a client for its server's hello.
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
    fate: Fate,
}

/// What has become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Fate {
    /// Nothing was decrypted yet.
    #[default]
    Open,
    /// Nothing was decrypted, and secrets that come from now on come too late.
    Late,
    /// A record was decrypted.
    Decrypted,
    /// It was given up before that.
    Undecrypted,
}

/// What the two sides have agreed on.
#[derive(Debug, Default)]
struct Hellos {
    /// Of the client: its random, and which direction it sends in.
    client: Option<([u8; 32], Direction)>,
    /// Whether the client wants to send data before the server answers.
    has_early_data: bool,
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

/// Whether a direction can be decrypted.
enum Found {
    /// By this.
    Opener(Box<Opener>),
    /// Not before more has come in the other direction.
    Nothing,
    /// Secrets are missing.
    NoSecrets,
    /// It never can.
    Never,
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
    opener: Option<Box<Opener>>,
    /// Bytes that were decrypted.
    plain: u64,
    records: VecDeque<Record>,
    /// Whether data were lost since the last that were told.
    is_torn: bool,
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

    /// Takes in a secret, at the time `now_ns` of a clock that does not go back.
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
        loop {
            let [request, response] = &mut state.sides;
            let (side, other) = match at.direction {
                Direction::Request => (request, response),
                Direction::Response => (response, request),
            };
            let others_wait = !other.waiting.bytes().is_empty();
            let hellos = &mut state.hellos;
            let (header, mut content) = match side.next() {
                Ok(Some(record)) => record,
                Ok(None) => return Course::Follow,
                Err(NoRecord) => return give_up_side(at.direction, state, tell),
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
                match hellos.find(at.direction, &mut self.secrets) {
                    // What the client has sent before the server's hello comes first.
                    Found::Opener(_) if state.fate == Fate::Open && others_wait => {
                        return Course::Wait;
                    }
                    Found::Opener(opener) => side.opener = Some(opener),
                    Found::Nothing => return Course::Follow,
                    Found::NoSecrets if state.fate == Fate::Open => return Course::Wait,
                    Found::NoSecrets | Found::Never => return give_up(state, tell),
                }
                if let Some(keys) = hellos.keys(&mut self.secrets) {
                    tell.keys(keys);
                }
                if hellos.misses_early_data(at.direction, &mut self.secrets) {
                    side.is_torn = true;
                }
            }
            let Some(opener) = &mut side.opener else {
                return Course::Follow;
            };
            let opened = opener.open(header, &mut content);
            side.drop_first(content.len(), end);
            match &opened {
                Some(_) if state.fate != Fate::Decrypted => {
                    state.fate = Fate::Decrypted;
                    tell.count(Counter::TlsDecrypted);
                }
                Some(_) => {}
                None => {
                    tell.count(Counter::TlsRecordsFailed);
                    // Before any data it is of the handshake.
                    side.is_torn |= side.plain > 0;
                }
            }
            let is_data =
                |opened: &Opened| opened.content == Kind::Data && !opened.range.is_empty();
            let Some(Opened { range, .. }) = opened.filter(is_data) else {
                if side.records.is_empty() {
                    tell.belongs(None, end);
                }
                continue;
            };
            let offset = side.plain;
            if std::mem::take(&mut side.is_torn) {
                let event = Event::Gap { offset, len: None };
                match self.tell_within(at, state, event, tell) {
                    Course::Follow => {}
                    course => return course,
                }
            }
            let side = &mut state.sides[at.direction as usize];
            side.plain += range.len() as u64;
            if side.records.len() == MOST_RECORDS {
                side.records.pop_front();
            }
            side.records.push_back(Record {
                plain: (offset, side.plain),
                place: (place + range.start as u64, end),
            });
            let bytes = &content[range];
            let event = Event::Data { offset, bytes };
            match self.tell_within(at, state, event, tell) {
                Course::Follow => {}
                course => return course,
            }
        }
    }

    /// Tells the protocol within.
    fn tell_within(
        &mut self,
        at: &At,
        state: &mut State<P::State>,
        event: Event<'_>,
        tell: &mut impl Tell,
    ) -> Course {
        let mut tell = Translator {
            tell,
            records: &mut state.sides[at.direction as usize].records,
        };
        let course = self.protocol.stream(at, &mut state.inner, event, &mut tell);
        match course {
            // What follows is still encrypted.
            Course::Becomes(_, exchange) => Course::RestOfBoth(Some(exchange)),
            Course::Foreign => Course::RestOfBoth(None),
            course => course,
        }
    }
}

/// Nothing more can be read in a direction.
fn give_up_side<S>(direction: Direction, state: &mut State<S>, tell: &mut impl Tell) -> Course {
    let side = &mut state.sides[direction as usize];
    side.is_over = true;
    side.waiting.clear();
    if state.sides.iter().all(|side| side.is_over) {
        return give_up(state, tell);
    }
    Course::Rest(None)
}

/// Nothing more can be read at all.
fn give_up<S>(state: &mut State<S>, tell: &mut impl Tell) -> Course {
    if matches!(state.fate, Fate::Open | Fate::Late) {
        state.fate = Fate::Undecrypted;
        tell.count(Counter::TlsUndecrypted);
    }
    for side in &mut state.sides {
        side.is_over = true;
        side.waiting.clear();
    }
    Course::RestOfBoth(None)
}

impl<P: Protocol> Protocol for Inside<P> {
    type State = Box<State<P::State>>;

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
                    return give_up_side(at.direction, state, tell);
                }
                self.read(at, state, tell)
            }
            Event::Gap { .. } => give_up_side(at.direction, state, tell),
            Event::End { reason, .. } => {
                match self.read(at, state, tell) {
                    Course::Follow => {}
                    course => return course,
                }
                if state.fate != Fate::Decrypted {
                    return give_up_side(at.direction, state, tell);
                }
                let offset = state.sides[at.direction as usize].plain;
                self.tell_within(at, state, Event::End { offset, reason }, tell)
            }
        }
    }

    fn can_go_on(&self, state: &Self::State) -> bool {
        let client = state.hellos.client.as_ref();
        client.is_none_or(|(random, _)| self.secrets.has(random))
    }

    fn go_on(&mut self, at: &At, state: &mut Self::State, tell: &mut impl Tell) -> Course {
        if state.fate == Fate::Open {
            state.fate = Fate::Late;
        }
        self.read(at, state, tell)
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
                    self.has_early_data = hello.as_ref().is_some_and(ClientHello::has_early_data);
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

    /// What decrypts a direction.
    fn find(&self, direction: Direction, secrets: &mut Store) -> Found {
        let Some((client_random, of_client)) = &self.client else {
            return Found::Never;
        };
        let is_client = direction == *of_client;
        let Some(server) = &self.server else {
            return match is_client {
                true => Found::Nothing,
                false => Found::Never,
            };
        };
        let agreement = Agreement {
            version: server.version,
            cipher: server.cipher,
            client_random,
            server_random: &server.random,
            encrypts_then_authenticates: server.encrypts_then_authenticates,
        };
        if !agreement.is_decrypted() {
            return Found::Never;
        }
        let secrets = secrets.get(client_random);
        let Some(secrets) = secrets.filter(|secrets| secrets.are_usable()) else {
            return Found::NoSecrets;
        };
        match Opener::new(&agreement, secrets, is_client) {
            Some(opener) => Found::Opener(Box::new(opener)),
            None => Found::Never,
        }
    }

    /// The secrets of the session, for others.
    fn keys(&self, secrets: &mut Store) -> Option<SessionKeys> {
        let (client, server) = (self.client.as_ref()?, self.server.as_ref()?);
        Some(SessionKeys {
            client_random: client.0,
            server_random: server.random,
            version: server.version,
            cipher: server.cipher,
            secrets: secrets.get(&client.0)?.clone(),
        })
    }

    /// Whether a direction may begin with data whose secret is not known.
    fn misses_early_data(&self, direction: Direction, secrets: &mut Store) -> bool {
        let Some((client_random, of_client)) = &self.client else {
            return false;
        };
        let early = secrets.get(client_random);
        let is_known = early.is_some_and(|secrets| secrets.get(Label::ClientEarly).is_some());
        self.has_early_data && direction == *of_client && !is_known
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

    fn count(&mut self, counter: Counter) {
        self.tell.count(counter);
    }

    fn settle(&mut self, exchange: Exchange) {
        self.tell.settle(exchange);
    }
}
