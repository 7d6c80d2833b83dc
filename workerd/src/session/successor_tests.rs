//! Workers that die while they follow HTTP and SMTP: their successors forward what they would have.

use std::collections::BTreeMap;
use std::fmt;

use lc_daemon::config::{
    Email, EmailContent, Http as HttpSettings, HttpContent, MailProtocols, NoFilterPolicy,
};
use proptest::prelude::*;

use super::desk::SessionDesk;
use super::desk_tests::Connection;
use super::protocols::{Mode, Protocols};
use super::script::Script;
use super::sessions::Sessions;
use super::tracker::{Cited, Exchange, Protocol};
use crate::desk::Desk;
use crate::desk::hand::SharedEsp;
use crate::email::smtp::Smtp;
use crate::flows::Direction;
use crate::http::Http;
use crate::reassembly::Limits;
use crate::voip::harness::{Harness, Memory, Setup};

const ACK: u8 = 16;

/// HTTP with a wanted host or status, and mail of a wanted sender.
fn desk(_: &Setup, _: usize) -> Desk<Protocols> {
    let mut limits = Limits::default();
    (limits.connections, limits.packets) = (256, 1 << 12);
    let http = HttpSettings {
        content: HttpContent {
            hosts: vec!["wanted*".into()],
            statuses: vec![200..=299],
            ..HttpContent::default()
        },
        ..HttpSettings::default()
    };
    let email = Email {
        protocols: MailProtocols {
            smtp: true,
            imap: true,
            pop3: true,
        },
        content: EmailContent {
            senders: vec!["wanted*".into()],
            ..EmailContent::default()
        },
        ..Email::default()
    };
    let protocols = Protocols {
        http: Some(Mode {
            protocol: Http::new(&http),
            policy: NoFilterPolicy::Allow,
            udp_only: false,
        }),
        smtp: Some(Mode {
            protocol: Smtp::new(&email),
            policy: NoFilterPolicy::Allow,
            udp_only: false,
        }),
        ..Protocols::default()
    };
    let sessions = Sessions::new(protocols, 64 << 10, &limits).unwrap();
    let esp = SharedEsp::default();
    let sessions = SessionDesk::new(sessions, SharedEsp::clone(&esp));
    Desk::new(None, Some(sessions), esp)
}

/// What one side says.
#[derive(Clone)]
struct Turn(usize, Vec<u8>);

impl fmt::Debug for Turn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {:?}", self.0, String::from_utf8_lossy(&self.1))
    }
}

/// Some exchanges of HTTP, each as one turn of the client and one of the server; those that are `joined` with the one before are asked at the same time.
fn http() -> impl Strategy<Value = Vec<Turn>> {
    let exchange = (0..3u8, 0..4u8, 0..40usize, any::<bool>());
    let exchanges = prop::collection::vec(exchange, 1..5);
    exchanges.prop_map(|exchanges| {
        let mut turns: Vec<Turn> = Vec::new();
        for (host, answer, body, is_joined) in exchanges {
            let host = ["wanted.example", "wanted.test", "other.example"][usize::from(host)];
            let content = "b".repeat(body);
            let request = match body % 2 {
                0 => format!("GET /{body} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
                _ => format!(
                    "POST /{body} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {body}\r\n\r\n{content}"
                ),
            };
            let response = match answer {
                0 => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
                1 => "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 x\r\nContent-Length: 1\r\n\r\nx"
                    .to_owned(),
                2 => format!("HTTP/1.1 200 OK\r\nContent-Length: {body}\r\n\r\n{content}"),
                _ => format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nworld\r\n{:x}\r\n{}\r\n0\r\n\r\n",
                    body + 1,
                    "c".repeat(body + 1),
                ),
            };
            match turns.len().checked_sub(2) {
                Some(before) if is_joined => {
                    turns[before].1.extend(request.bytes());
                    turns[before + 1].1.extend(response.bytes());
                }
                _ => turns.extend([Turn(0, request.into_bytes()), Turn(1, response.into_bytes())]),
            }
        }
        turns
    })
}

/// Some mails on one connection; the commands of some at once.
fn smtp() -> impl Strategy<Value = Vec<Turn>> {
    let mail = (any::<bool>(), any::<bool>(), 0..6usize);
    prop::collection::vec(mail, 1..4).prop_map(|mails| {
        let mut turns: Vec<Turn> = vec![
            Turn(1, b"220 mail.example ESMTP\r\n".to_vec()),
            Turn(0, b"EHLO client.example\r\n".to_vec()),
            Turn(1, b"250-mail.example\r\n250 PIPELINING\r\n".to_vec()),
        ];
        for (is_wanted, is_pipelined, lines) in mails {
            let sender = if is_wanted { "wanted" } else { "other" };
            let from = format!("MAIL FROM:<{sender}@example.net>\r\n").into_bytes();
            let to = b"RCPT TO:<somebody@example.org>\r\n".to_vec();
            let data = b"DATA\r\n".to_vec();
            let replies = [
                &b"250 2.1.0 Ok\r\n"[..],
                b"250 2.1.5 Ok\r\n",
                b"354 End data with <CR><LF>.<CR><LF>\r\n",
            ];
            match is_pipelined {
                true => turns.extend([
                    Turn(0, [from, to, data].concat()),
                    Turn(1, replies.concat()),
                ]),
                false => {
                    for (command, reply) in [from, to, data].into_iter().zip(replies) {
                        turns.extend([Turn(0, command), Turn(1, reply.to_vec())]);
                    }
                }
            }
            let text = "..A line of a mail.\r\n".repeat(lines);
            let mail = format!("Subject: x\r\n\r\n{text}.\r\n");
            turns.extend([
                Turn(0, mail.into_bytes()),
                Turn(1, b"250 2.0.0 Ok: queued\r\n".to_vec()),
            ]);
        }
        turns.extend([
            Turn(0, b"QUIT\r\n".to_vec()),
            Turn(1, b"221 Bye\r\n".to_vec()),
        ]);
        turns
    })
}

/// How a conversation is carried: in segments of this size, of which some are acknowledged, come again or come late.
#[derive(Debug, Clone)]
struct Carriage {
    size: usize,
    acknowledges: usize,
    repeats: usize,
    swaps: usize,
}

/// In the order in which it was sent.
fn carriage() -> impl Strategy<Value = Carriage> {
    overtaking().prop_map(|carriage| Carriage {
        swaps: usize::MAX,
        ..carriage
    })
}

/// With segments that come late.
fn overtaking() -> impl Strategy<Value = Carriage> {
    let parts = (1..60usize, 1..5usize, 2..9usize, 2..9usize);
    parts.prop_map(|(size, acknowledges, repeats, swaps)| Carriage {
        size,
        acknowledges,
        repeats,
        swaps,
    })
}

/// The packets of conversations that go on at the same time, with this port of a server.
fn packets(conversations: &[(Vec<Turn>, Carriage)], port: u16) -> Vec<Vec<u8>> {
    let mut all = BTreeMap::new();
    for (number, (turns, carriage)) in conversations.iter().enumerate() {
        let mut connection = Connection::between((1, 40_000 + number as u16), (2, port));
        let mut packets: Vec<Vec<u8>> = connection.open().into();
        let mut count = 0;
        for Turn(side, bytes) in turns {
            for piece in bytes.chunks(carriage.size) {
                count += 1;
                let packet = connection.packet(*side, ACK, piece);
                match count % carriage.swaps {
                    0 if packets.len() > 3 => packets.insert(packets.len() - 1, packet.clone()),
                    _ => packets.push(packet.clone()),
                }
                if count % carriage.repeats == 0 {
                    packets.push(packet);
                }
                if count % carriage.acknowledges == 0 {
                    packets.push(connection.packet(1 - side, ACK, b""));
                }
            }
        }
        packets.extend(connection.close());
        for (at, packet) in packets.into_iter().enumerate() {
            all.insert((at, number), packet);
        }
    }
    all.into_values().collect()
}

/// The packets that arrive when a worker dies so often, and how often it did.
fn outcome(packets: &[Vec<u8>], batch: usize, deaths: &[(usize, usize)]) -> (Vec<u64>, usize) {
    let setup = Setup {
        users: vec![],
        ..Setup::default()
    };
    let memory = Memory::new(0, &setup);
    let mut harness = Harness::with(memory, vec![], setup, desk);
    harness.batch = batch;
    harness.play_with_deaths(packets, deaths);
    let mut numbers = harness.numbers();
    numbers.sort_unstable();
    (numbers, harness.deaths)
}

fn deaths() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((0..40usize, 0..3usize), 1..8)
}

/// A session that goes on in `state`.
fn play<P: Protocol>(protocol: &mut P, state: P::State, offset: u64, text: &[u8]) {
    let mut script = Script::of(protocol, 80, state);
    for direction in [Direction::Request, Direction::Response] {
        script.at(direction, offset).bytes(direction, text);
        script.gap(direction, Some(7)).bytes(direction, text);
    }
    let state = script.into_state();
    let _ = protocol.place(&state, &mut Cited::default());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn of_http_nothing_is_lost(
        conversations in prop::collection::vec((http(), carriage()), 1..4),
        batch in 1..5usize,
        deaths in deaths(),
    ) {
        let packets = packets(&conversations, 80);
        let (expected, _) = outcome(&packets, batch, &[]);
        let (found, deaths) = outcome(&packets, batch, &deaths);
        prop_assert_eq!(found, expected, "after {} deaths", deaths);
    }

    /// Where one that comes late was overtaken by another just when the worker died, what the late one begins may be missed; but nothing comes twice.
    #[test]
    fn of_what_comes_late_nothing_comes_twice(
        conversations in prop::collection::vec((http(), overtaking()), 1..4),
        batch in 1..5usize,
        deaths in deaths(),
    ) {
        let packets = packets(&conversations, 80);
        let (mut found, _) = outcome(&packets, batch, &deaths);
        let all = found.len();
        found.dedup();
        prop_assert_eq!(found.len(), all);
    }

    /// Whatever a log says of places, sessions go on.
    #[test]
    fn hostile_places_do_no_harm(
        place in prop::collection::vec(any::<u8>(), 0..60),
        text in "[ -~\r\n]{0,60}",
        offset in 0..u64::MAX / 2,
    ) {
        let cited = Cited::of(vec![Exchange(1), Exchange(2)]);
        let http = &mut Http::new(&HttpSettings::default());
        let state = http.resume(&place, &cited);
        play(http, state, offset, text.as_bytes());
        let smtp = &mut Smtp::new(&Email::default());
        let state = smtp.resume(&place, &cited);
        play(smtp, state, offset, text.as_bytes());
    }

    #[test]
    fn of_smtp_nothing_is_lost(
        conversations in prop::collection::vec((smtp(), carriage()), 1..4),
        batch in 1..5usize,
        deaths in deaths(),
    ) {
        let packets = packets(&conversations, 25);
        let (expected, _) = outcome(&packets, batch, &[]);
        let (found, deaths) = outcome(&packets, batch, &deaths);
        prop_assert_eq!(found, expected, "after {} deaths", deaths);
    }
}
