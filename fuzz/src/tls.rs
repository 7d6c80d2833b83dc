//! TLS, DTLS and QUIC: what the tracker tells of connections.

use lc_workerd::decode::Addr;
use lc_workerd::flows::Direction;
use lc_workerd::matcher::{Kind, Kinds};
use lc_workerd::reassembly::{End, Event};
use lc_workerd::session::{At, Content, Course, Ends, Exchange, Note, Protocol, Tell};
use lc_workerd::tls::{Extent, Tls};

use crate::Input;

/// Most bytes that may wait, whatever comes: a hello is no longer.
const MOST_WAITING: usize = 1 << 20;

/// `bytes`: flags (1: the handshake alone is wanted), length of the pieces, length of the client's stream, the client's, the server's.
pub fn check_stream(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (flags, size) = (input.u8(), usize::from(input.u8()).max(1));
    let client_len = usize::from(input.u16());
    let rest = input.rest();
    let (client, server) = rest.split_at(client_len.min(rest.len()));
    let whole = stream(flags, client, server, usize::MAX);
    assert_eq!(
        stream(flags, client, server, size),
        whole,
        "pieces make a difference"
    );
}

/// `bytes`: flags, then datagrams, each with its direction and length.
pub fn check_quic(bytes: &[u8]) {
    datagrams(bytes, |payload| {
        payload.first().is_some_and(|first| first & 0x80 != 0)
    });
}

/// The same of DTLS.
pub fn check_dtls(bytes: &[u8]) {
    datagrams(bytes, |payload| {
        payload.first().is_some_and(|first| first & 0x80 == 0)
    });
}

fn extent(flags: u8) -> Extent {
    match flags & 1 {
        0 => Extent::Full,
        _ => Extent::Handshake,
    }
}

fn at(direction: Direction) -> At {
    let end = |port| (Addr::V4(0x7f00_0001), port);
    At {
        direction,
        ends: Ends {
            client: end(40_000),
            server: end(443),
        },
        time_ns: 1,
    }
}

/// What is told of a connection whose bytes come in pieces.
fn stream(flags: u8, client: &[u8], server: &[u8], size: usize) -> Vec<(u64, Vec<u8>)> {
    let mut tls = Tls::new(extent(flags));
    let mut state = <Tls as Protocol>::State::default();
    let mut told = Told::default();
    let sides = [(Direction::Request, client), (Direction::Response, server)];
    for (direction, bytes) in sides {
        let mut offset = 0;
        for piece in bytes.chunks(size) {
            let event = Event::Data {
                offset,
                bytes: piece,
            };
            offset += piece.len() as u64;
            let course = tls.stream(&at(direction), &mut state, event, &mut told);
            assert!(tls.waiting_bytes() <= MOST_WAITING);
            if course != Course::Follow {
                break;
            }
        }
    }
    for (direction, bytes) in sides {
        let offset = bytes.len() as u64;
        let reason = End::Finished;
        let _ = tls.stream(
            &at(direction),
            &mut state,
            Event::End { offset, reason },
            &mut told,
        );
    }
    drop(state);
    assert_eq!(tls.waiting_bytes(), 0, "what waits is given back");
    told.notes
}

fn datagrams(bytes: &[u8], is_read: impl Fn(&[u8]) -> bool) {
    let mut input = Input::new(bytes);
    let mut tls = Tls::new(extent(input.u8()));
    let mut state = <Tls as Protocol>::State::default();
    let mut told = Told::default();
    while !input.is_empty() {
        let direction = match input.u8() & 1 {
            0 => Direction::Request,
            _ => Direction::Response,
        };
        let payload = input.packet();
        if is_read(payload) {
            let course = tls.datagram(&at(direction), &mut state, payload, &mut told);
            assert!(tls.waiting_bytes() <= MOST_WAITING);
            if matches!(course, Course::RestOfBoth(_)) {
                break;
            }
        }
    }
    drop(state);
    assert_eq!(tls.waiting_bytes(), 0, "what waits is given back");
}

/// Keeps notes, and looks at what is told beside them.
#[derive(Default)]
struct Told {
    begun: u64,
    settled: Vec<Exchange>,
    notes: Vec<(u64, Vec<u8>)>,
}

impl Tell for Told {
    fn begin(&mut self) -> Exchange {
        self.begun += 1;
        assert!(
            self.begun <= 2,
            "a connection is an exchange, and its data may be another"
        );
        Exchange(self.begun)
    }

    fn belongs(&mut self, _: Option<Exchange>, _: u64) {}

    fn wanted(&self) -> Kinds {
        Kinds::ALL
    }

    fn compare(&mut self, exchange: Exchange, _: Kind, _: &[u8]) {
        assert!(
            !self.settled.contains(&exchange),
            "compared although settled"
        );
    }

    fn content(&mut self, _: Exchange, _: Content) {}

    fn note(&mut self, _: Exchange, offset: u64, note: Note<'_>) {
        assert!(note.details.len() < 16 << 10 && note.info.len() < 2 << 10);
        self.notes.push((offset, note.details.to_vec()));
    }

    fn about(&mut self, _: Exchange, _: Note<'_>) {}

    fn settle(&mut self, exchange: Exchange) {
        assert!(!self.settled.contains(&exchange));
        self.settled.push(exchange);
    }
}
