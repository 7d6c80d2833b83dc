//! TLS, DTLS and QUIC: what the tracker tells of connections.

use lc_workerd::flows::Direction;
use lc_workerd::reassembly::End;
use lc_workerd::session::Course;
use lc_workerd::session::script::{Script, Told};
use lc_workerd::tls::opening::may_begin;
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
    // What comes before TLS ends with a segment: there the pieces do make a difference.
    let first = if client.is_empty() { server } else { client };
    let size = match may_begin(first) {
        true => size,
        false => usize::MAX,
    };
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

/// What is told of a connection whose bytes come in pieces.
fn stream(flags: u8, client: &[u8], server: &[u8], size: usize) -> Vec<(u64, Vec<u8>)> {
    let mut tls = Tls::new(extent(flags));
    let mut script = Script::new(&mut tls, 443);
    for (direction, bytes) in [(Direction::Request, client), (Direction::Response, server)] {
        for piece in bytes.chunks(size) {
            script.bytes(direction, piece);
            assert!(script.protocol().waiting_bytes() <= MOST_WAITING);
            if is_over(&script.told, direction) {
                break;
            }
        }
    }
    for direction in [Direction::Request, Direction::Response] {
        if !is_over(&script.told, direction) {
            script.end(direction, End::Finished);
        }
    }
    let notes = notes(&script.told);
    drop(script);
    assert_eq!(tls.waiting_bytes(), 0, "what waits is given back");
    notes
}

/// Whether nothing more is to be learnt in a direction.
fn is_over(told: &[Told], direction: Direction) -> bool {
    let ends = |told: &Told| matches!(told, Told::Course(of, _) if *of == direction);
    told.iter().any(ends)
}

fn datagrams(bytes: &[u8], is_read: impl Fn(&[u8]) -> bool) {
    let mut input = Input::new(bytes);
    let mut tls = Tls::new(extent(input.u8()));
    let mut script = Script::new(&mut tls, 443);
    while !input.is_empty() {
        let direction = match input.u8() & 1 {
            0 => Direction::Request,
            _ => Direction::Response,
        };
        let payload = input.packet();
        if is_read(payload) {
            script.datagram(direction, payload);
            assert!(script.protocol().waiting_bytes() <= MOST_WAITING);
            if let Some(Told::Course(_, Course::RestOfBoth(_))) = script.told.last() {
                break;
            }
        }
    }
    notes(&script.told);
    drop(script);
    assert_eq!(tls.waiting_bytes(), 0, "what waits is given back");
}

/// The notes of a connection: of which packet, and details. What is told beside them is looked at.
fn notes(told: &[Told]) -> Vec<(u64, Vec<u8>)> {
    let (mut begun, mut settled, mut notes) = (0, Vec::new(), Vec::new());
    for told in told {
        match told {
            Told::Begin(_) => begun += 1,
            Told::Compare(exchange, ..) => {
                assert!(!settled.contains(exchange), "compared although settled");
            }
            Told::Note {
                offset,
                info,
                details,
                ..
            } => {
                assert!(details.len() < 16 << 10 && info.len() < 2 << 10);
                notes.push((*offset, details.clone()));
            }
            Told::Settle(exchange) => {
                assert!(!settled.contains(exchange));
                settled.push(*exchange);
            }
            _ => {}
        }
    }
    assert!(
        begun <= 2,
        "a connection is an exchange, and its data may be another"
    );
    notes
}
