//! DNS, HTTP, TLS and mail: what the analyser of each costs, for a message or a connection, with every field that filters could ask for and all that is told; and what public parsers of DNS and of TLS
//! take for the same bytes, which is parsing alone.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot start has nobody to tell but the person who runs it"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lc_bench::generate::{Frames, Kind, Length, Settings, Traffic};
use lc_daemon::config;
use lc_workerd::decode::{Addr, decode};
use lc_workerd::dns::Dns;
use lc_workerd::dns::message::Message;
use lc_workerd::email::smtp::Smtp;
use lc_workerd::flows::Direction;
use lc_workerd::http::Http;
use lc_workerd::matcher::{Kind as Field, Kinds};
use lc_workerd::reassembly::Event;
use lc_workerd::session::{At, Content, Course, Ends, Exchange, Note, Protocol, Tell};
use lc_workerd::tls::fingerprint::ja4;
use lc_workerd::tls::hello::{Carrier, ClientHello};
use lc_workerd::tls::{Extent, Tls};
use shm_layout::counters::WorkerCounter;

const ETHERNET: u16 = 1;
/// Packets of each kind.
const PACKETS: u64 = 10_000;
/// Of a record and of a handshake message.
const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;

/// What both sides of a conversation said, packet by packet.
type Conversation = Vec<(Direction, Vec<u8>)>;

/// One conversation behind the other.
fn conversations(kind: Kind) -> Vec<Conversation> {
    let settings = Settings {
        length: Length::Packets(PACKETS),
        flows: 1,
        mix: format!("{}=1", kind.name()).parse().expect("a mix"),
        ..Settings::default()
    };
    let mut traffic = Traffic::new(settings).expect("sound settings");
    let (mut all, mut last) = (Vec::<Conversation>::new(), None);
    while let Some(packet) = traffic.next_frame() {
        let decoded = decode(ETHERNET, packet.bytes);
        let payload = decoded.payload_of(packet.bytes);
        let (source, destination) = decoded.ports.expect("all have ports");
        let (direction, client) = match source > destination {
            true => (Direction::Request, source),
            false => (Direction::Response, destination),
        };
        if last.replace(client) != Some(client) {
            all.push(Vec::new());
        }
        if let (Some(conversation), false) = (all.last_mut(), payload.is_empty()) {
            conversation.push((direction, payload.to_vec()));
        }
    }
    all
}

/// Compares everything, and throws it away.
#[derive(Default)]
struct Listener {
    begun: u64,
    /// Nothing matches, so nothing is told of packets.
    wants_nothing: bool,
}

impl Tell for Listener {
    fn begin(&mut self) -> Exchange {
        self.begun += 1;
        Exchange(self.begun)
    }

    fn belongs(&mut self, exchange: Option<Exchange>, end: u64) {
        black_box((exchange, end));
    }

    fn wanted(&self) -> Kinds {
        Kinds::ALL
    }

    fn compare(&mut self, exchange: Exchange, kind: Field, text: &[u8]) {
        black_box((exchange, kind, text));
    }

    fn content(&mut self, exchange: Exchange, content: Content) {
        black_box((exchange, content));
    }

    fn is_unwanted(&self, _: Exchange) -> bool {
        self.wants_nothing
    }

    fn note(&mut self, exchange: Exchange, offset: u64, note: Note<'_>) {
        black_box((exchange, offset, note));
    }

    fn about(&mut self, exchange: Exchange, note: Note<'_>) {
        black_box((exchange, note));
    }

    fn count(&mut self, counter: WorkerCounter) {
        black_box(counter);
    }

    fn settle(&mut self, exchange: Exchange) {
        black_box(exchange);
    }
}

fn at(direction: Direction) -> At {
    At {
        direction,
        ends: Ends {
            client: (Addr::V4(1), 40_000),
            server: (Addr::V4(2), 53),
        },
        time_ns: 1_767_225_600_000_000_000,
    }
}

/// A connection from its first byte to its last.
fn follow<P: Protocol>(protocol: &mut P, conversation: &Conversation, tell: &mut Listener) {
    let mut state = P::State::default();
    let mut offsets = [0; 2];
    for (direction, bytes) in conversation {
        let offset = &mut offsets[*direction as usize];
        let event = Event::Data {
            offset: *offset,
            bytes,
        };
        *offset += bytes.len() as u64;
        let course = protocol.stream(&at(*direction), &mut state, event, tell);
        if course != Course::Follow {
            break;
        }
    }
}

fn dns(criterion: &mut Criterion) {
    let messages: Vec<Vec<u8>> = conversations(Kind::Dns)
        .into_iter()
        .flatten()
        .map(|(_, payload)| payload)
        .collect();
    let mut group = criterion.benchmark_group("dns");
    group.throughput(Throughput::Elements(messages.len() as u64));
    let mut dns = Dns::new(&config::Dns::default());
    for (name, wants_nothing) in [("followed, unwanted", true), ("followed, wanted", false)] {
        let mut tell = Listener {
            wants_nothing,
            ..Listener::default()
        };
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for message in &messages {
                    let is_response = message.get(2).is_some_and(|flags| flags & 0x80 != 0);
                    let direction = match is_response {
                        true => Direction::Response,
                        false => Direction::Request,
                    };
                    let state = &mut Default::default();
                    let course = dns.datagram(&at(direction), state, message, &mut tell);
                    assert_eq!(course, Course::Follow);
                }
            });
        });
    }
    group.bench_function("parsed", |bencher| {
        bencher.iter(|| {
            for message in &messages {
                let message = Message::parse(message).expect("a message");
                black_box(message.walk().count());
            }
        });
    });
    group.bench_function("simple-dns, parsed", |bencher| {
        bencher.iter(|| {
            for message in &messages {
                black_box(simple_dns::Packet::parse(message).expect("a message"));
            }
        });
    });
    group.finish();
}

fn tls(criterion: &mut Criterion) {
    let connections = conversations(Kind::Tls);
    let hellos: Vec<&[u8]> = connections
        .iter()
        .filter_map(|connection| Some(connection.first()?.1.as_slice()))
        .collect();
    let mut group = criterion.benchmark_group("tls");
    group.throughput(Throughput::Elements(hellos.len() as u64));
    let (mut tls, mut tell) = (Tls::new(Extent::Full), Listener::default());
    group.bench_function("connection", |bencher| {
        bencher.iter(|| {
            for connection in &connections {
                follow(&mut tls, connection, &mut tell);
            }
        });
    });
    group.bench_function("ClientHello with JA4", |bencher| {
        bencher.iter(|| {
            for record in &hellos {
                let body = &record[RECORD_HEADER + MESSAGE_HEADER..];
                let hello = ClientHello::read(body, Carrier::Stream).expect("a hello");
                black_box((hello.server_name(), ja4(&hello)));
            }
        });
    });
    group.bench_function("tls-parser, ClientHello and its extensions", |bencher| {
        bencher.iter(|| {
            for record in &hellos {
                let (_, record) = tls_parser::parse_tls_plaintext(record).expect("a record");
                for message in &record.msg {
                    if let tls_parser::TlsMessage::Handshake(
                        tls_parser::TlsMessageHandshake::ClientHello(hello),
                    ) = message
                    {
                        let extensions = hello.ext.unwrap_or_default();
                        black_box(tls_parser::parse_tls_extensions(extensions).is_ok());
                    }
                }
            }
        });
    });
    group.finish();
}

fn streams(criterion: &mut Criterion) {
    let mut tell = Listener::default();
    let mut group = criterion.benchmark_group("http");
    let connections = conversations(Kind::Http);
    let messages = connections.iter().flatten();
    let messages =
        messages.filter(|(_, bytes)| bytes.starts_with(b"GET") || bytes.starts_with(b"HTTP"));
    group.throughput(Throughput::Elements(messages.count() as u64));
    let mut http = Http::new(&config::Http::default());
    group.bench_function("message", |bencher| {
        bencher.iter(|| {
            for connection in &connections {
                follow(&mut http, connection, &mut tell);
            }
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("smtp");
    let connections = conversations(Kind::Mail);
    group.throughput(Throughput::Elements(connections.len() as u64));
    let mut smtp = Smtp::new(&config::Email::default());
    group.bench_function("session with one mail", |bencher| {
        bencher.iter(|| {
            for connection in &connections {
                follow(&mut smtp, connection, &mut tell);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, dns, tls, streams);
criterion_main!(benches);
