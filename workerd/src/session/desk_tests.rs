//! Sessions of a toy protocol, through the desk.

use std::collections::BTreeMap;

use lc_daemon::config::NoFilterPolicy;
use lc_tests::ipv4::{ACK, FIN, SYN};
use proptest::prelude::*;
use shm_layout::counters::WorkerCounter as Counter;

use super::toy::{self, Toy};
use crate::voip::harness::{End, Harness, MILLISECOND, Memory, SECOND, Setup, tcp};

const RST: u8 = 4;
const CLIENT: End = (1, 40_000);
const SERVER: End = (2, 7_000);
const BANNER: &[u8] = b"SSH-2.0-toy\r\n";

/// A connection, as both ends see it.
#[derive(Clone)]
pub(super) struct Connection {
    ends: [End; 2],
    seq: [u32; 2],
}

impl Connection {
    pub(super) fn from(client: End) -> Self {
        Self::between(client, SERVER)
    }

    pub(super) fn between(client: End, server: End) -> Self {
        Self {
            ends: [client, server],
            seq: [100, 500],
        }
    }

    pub(super) fn packet(&mut self, side: usize, flags: u8, payload: &[u8]) -> Vec<u8> {
        let (from, to) = (self.ends[side], self.ends[1 - side]);
        let frame = tcp(
            from,
            to,
            (self.seq[side], self.seq[1 - side]),
            flags,
            payload,
        );
        let takes = flags & (SYN | FIN) != 0;
        self.seq[side] += payload.len() as u32 + u32::from(takes);
        frame
    }

    fn client(&mut self, line: &[u8]) -> Vec<u8> {
        self.packet(0, ACK, line)
    }

    fn server(&mut self, line: &[u8]) -> Vec<u8> {
        self.packet(1, ACK, line)
    }

    /// A handshake.
    pub(super) fn open(&mut self) -> [Vec<u8>; 3] {
        [
            self.packet(0, SYN, b""),
            self.packet(1, SYN | ACK, b""),
            self.packet(0, ACK, b""),
        ]
    }

    /// Both sides end it.
    pub(super) fn close(&mut self) -> [Vec<u8>; 3] {
        [
            self.packet(0, FIN | ACK, b""),
            self.packet(1, FIN | ACK, b""),
            self.packet(0, ACK, b""),
        ]
    }
}

fn harness(setup: Setup) -> Harness<Toy> {
    let memory = Memory::new(0, &setup);
    Harness::with(memory, vec![], setup, toy::desk)
}

/// A harness and a connection that was opened, by packets 0 to 2, and told by its banner, packet 3.
fn opened(setup: Setup) -> (Harness<Toy>, Connection) {
    let mut harness = harness(setup);
    let mut connection = Connection::from(CLIENT);
    for packet in connection.open() {
        harness.give(&packet);
    }
    harness.give(&connection.client(BANNER));
    (harness, connection)
}

fn told(harness: &mut Harness<Toy>) -> Vec<(u64, String)> {
    let arrived = harness.arrived().iter();
    let told = arrived.map(|one| (one.number(), one.metadata().info.clone()));
    told.collect()
}

#[test]
fn packets_wait_until_their_exchange_is_decided() {
    let (mut harness, mut connection) = opened(Setup::default());
    harness.give(&connection.client(b"ali"));
    harness.give(&connection.server(b"hello\n"));
    harness.work();
    assert!(harness.arrived().is_empty());
    harness.give(&connection.client(b"ce\n"));
    harness.work();
    // The banner was an exchange of its own, which the server has answered: so all that led to it is unwanted.
    assert_eq!(harness.numbers(), [4, 6]);
    harness.give(&connection.server(b""));
    harness.give(&connection.server(b"yes\n"));
    harness.give(&connection.client(b""));
    harness.work();
    assert_eq!(harness.numbers(), [4, 6, 7, 8, 9]);
    let told = told(&mut harness);
    assert_eq!(told[0], (4, "alice".to_owned()));
    assert_eq!(told[3], (8, "yes".to_owned()));
    for arrived in harness.arrived() {
        assert_eq!(arrived.packet.matched_filter_ids, ["f-alice"]);
    }
    harness.check_ledger();
}

#[test]
fn the_handshake_goes_with_the_first_exchange() {
    let (mut harness, mut connection) = opened(Setup::default());
    harness.give(&connection.server(b""));
    harness.work();
    assert!(harness.arrived().is_empty());
    harness.give(&connection.server(b"alice\n"));
    for packet in connection.close() {
        harness.give(&packet);
    }
    harness.work();
    assert_eq!(harness.numbers(), (0..9).collect::<Vec<_>>());
    harness.finish();
    harness.check_ledger();
}

#[test]
fn without_filters_everything_passes_at_once() {
    let setup = Setup {
        policy: NoFilterPolicy::Deny,
        users: vec![],
        ..Setup::default()
    };
    // The policy is that of the protocol's mode.
    let (mut harness, mut connection) = opened(setup);
    harness.give(&connection.client(b"x\n"));
    harness.work();
    assert_eq!(harness.numbers(), [0, 1, 2, 3, 4]);
    for arrived in harness.arrived() {
        assert!(arrived.packet.matched_filter_ids.is_empty());
    }
}

#[test]
fn unwanted_sessions_are_not_held() {
    let (mut harness, mut connection) = opened(Setup::default());
    harness.give(&connection.server(b"bob\n"));
    harness.give(&connection.client(b"bob\n"));
    harness.give(&connection.server(b"bob\n"));
    harness.work();
    assert_eq!(harness.held_bytes(), 0);
    for _ in 0..100 {
        harness.give(&connection.server(b""));
    }
    harness.work();
    assert_eq!(harness.held_bytes(), 0);
    assert!(harness.arrived().is_empty());
    harness.finish();
    harness.check_ledger();
}

#[test]
fn foreign_flows_are_let_go() {
    let mut harness = harness(Setup::default());
    let mut connection = Connection::from(CLIENT);
    for packet in connection.open() {
        harness.give(&packet);
    }
    harness.work();
    assert!(harness.held_bytes() > 0);
    harness.give(&connection.client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    harness.work();
    assert_eq!(harness.held_bytes(), 0);
    let held = harness.count(Counter::Held);
    harness.give(&connection.client(b"SSH-2.0-toy\r\nalice\n"));
    harness.work();
    assert_eq!(harness.count(Counter::Held), held);
    // A new connection between the same ports is looked at.
    connection.seq = [70_000, 90_000];
    for packet in connection.open() {
        harness.give(&packet);
    }
    harness.give(&connection.client(BANNER));
    harness.give(&connection.server(b"alice\n"));
    harness.work();
    assert_eq!(harness.numbers(), [5, 6, 7, 8, 9]);
    harness.finish();
    harness.check_ledger();
}

#[test]
fn segments_out_of_order_and_again_go_once_each() {
    let (mut harness, mut connection) = opened(Setup::default());
    harness.give(&connection.server(b"no\n"));
    let parts: Vec<_> = [&b"al"[..], b"ic", b"e\n"]
        .iter()
        .map(|part| connection.client(part))
        .collect();
    for part in [2, 1, 1, 0, 2] {
        harness.give(&parts[part]);
    }
    harness.work();
    assert_eq!(harness.numbers(), [5, 6, 7, 8, 9]);
    harness.check_ledger();
}

#[test]
fn pipelined_exchanges_are_judged_each_by_itself() {
    let (mut harness, mut connection) = opened(Setup::default());
    harness.give(&connection.server(b"no\n"));
    harness.give(&connection.client(b"bob\nalice\n"));
    harness.give(&connection.client(b"carol\n"));
    harness.give(&connection.client(b"dave\n"));
    harness.give(&connection.server(b"1\n"));
    harness.give(&connection.server(b"2\n"));
    harness.give(&connection.server(b"alice\n"));
    harness.give(&connection.server(b"4\n"));
    harness.finish();
    // Packet 5 is of the second exchange as well; 6 is of the third, which matches late. What was captured before goes before.
    assert_eq!(harness.numbers(), [5, 6, 9, 10]);
    let told = told(&mut harness);
    assert_eq!(told[0], (5, "alice".to_owned()));
    harness.check_ledger();
}

#[test]
fn a_mode_may_want_content() {
    let setup = Setup {
        users: vec![],
        ..Setup::default()
    };
    let memory = Memory::new(0, &setup);
    let mut harness = Harness::with(memory, vec![], setup, toy::desk_with_content);
    let mut connection = Connection::from(CLIENT);
    for packet in connection.open() {
        harness.give(&packet);
    }
    harness.give(&connection.client(BANNER));
    harness.give(&connection.server(b"x\n"));
    harness.give(&connection.client(b"x fits\n"));
    harness.give(&connection.server(b"x\n"));
    harness.give(&connection.client(b"x fails\n"));
    harness.give(&connection.server(b"x\n"));
    harness.work();
    assert_eq!(harness.numbers(), [5, 6]);
    // Filters and content: both.
    harness.filter(&["alice"]);
    for line in ["alice\n", "alice fits\n", "alice fails\n", "bob fits\n"] {
        harness.give(&connection.client(line.as_bytes()));
        harness.give(&connection.server(b"x\n"));
    }
    harness.finish();
    assert_eq!(harness.numbers()[2..], [11, 12]);
    harness.check_ledger();
}

#[test]
fn later_filters_hold_for_what_is_undecided() {
    let (mut harness, mut connection) = opened(Setup::default());
    harness.give(&connection.server(b"no\n"));
    harness.give(&connection.client(b"bob\n"));
    harness.work();
    harness.filter(&["bob"]);
    harness.work();
    harness.give(&connection.server(b"1\n"));
    harness.work();
    assert_eq!(harness.numbers(), [5, 6]);
    // What is wanted stays so.
    harness.give(&connection.client(b"bob\n"));
    harness.work();
    harness.filter(&["carol"]);
    harness.give(&connection.server(b"2\n"));
    harness.finish();
    assert_eq!(harness.numbers(), [5, 6, 7, 8]);
    assert_eq!(harness.arrived()[3].packet.matched_filter_ids, ["f-bob"]);
}

#[test]
fn a_session_may_go_on_in_another_protocol() {
    let (mut harness, mut connection) = opened(Setup::default());
    harness.give(&connection.server(b"no\n"));
    harness.give(&connection.client(b"alice turn\nSSH-2.0-again\n"));
    harness.give(&connection.server(b"no\n"));
    harness.give(&connection.client(b"bob turn\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    harness.give(&connection.server(b"HTTP/1.1 200 OK\r\n\r\n"));
    harness.finish();
    // All that is carried is of the exchange that led there, though a second one leads to what is not followed.
    assert_eq!(harness.numbers(), [5, 6, 7, 8]);
    harness.check_ledger();
}

#[test]
fn nothing_more_is_learnt_of_the_rest() {
    let (mut harness, mut connection) = opened(Setup::default());
    harness.give(&connection.client(b"alice rest\n"));
    for line in ["bob\n", "bob\n"] {
        harness.give(&connection.client(line.as_bytes()));
        harness.give(&connection.server(line.as_bytes()));
    }
    for packet in connection.close() {
        harness.give(&packet);
    }
    harness.work();
    // The banner was never answered, and what waits for it goes when that is known.
    assert_eq!(harness.numbers(), [] as [u64; 0]);
    harness.finish();
    assert_eq!(harness.numbers(), (4..12).collect::<Vec<_>>());
    harness.check_ledger();
}

#[test]
fn what_waits_is_bounded() {
    let setup = Setup {
        held_bytes: 64 << 10,
        ..Setup::default()
    };
    let (mut harness, mut connection) = opened(setup);
    harness.give(&connection.server(b"no\n"));
    harness.give(&connection.client(b"alice"));
    harness.work();
    for _ in 0..200 {
        harness.give(&connection.client(&[b'x'; 1000]));
        harness.work();
        assert!(harness.held_bytes() <= 64 << 10);
    }
    assert!(harness.count(Counter::HeldDropped) > 100);
    harness.give(&connection.client(b" \n"));
    harness.finish();
    harness.check_ledger();
}

#[test]
fn what_waits_for_too_long_is_dropped() {
    let (mut harness, mut connection) = opened(Setup::default());
    for _ in 0..4 {
        harness.work();
        harness.give_after(60 * SECOND, &connection.server(b""));
    }
    harness.work();
    // The handshake and the banner, and the first acknowledgement.
    assert_eq!(harness.count(Counter::HeldDropped), 5);
    harness.give(&connection.server(b"alice\n"));
    harness.finish();
    assert_eq!(harness.numbers(), [5, 6, 7, 8]);
    harness.check_ledger();
}

#[test]
fn silent_connections_are_given_up() {
    let (mut harness, _) = opened(Setup::default());
    harness.work();
    let mut other = Connection::from((3, 50_000));
    harness.give_after(200 * SECOND, &other.open()[0]);
    harness.work();
    harness.give_after(20 * SECOND, &other.open()[0]);
    harness.work();
    assert_eq!(harness.count(Counter::HeldReleased), 4);
    harness.finish();
    harness.check_ledger();
}

#[test]
fn a_flood_of_connections_leaves_the_others_alone() {
    let setup = Setup {
        held_bytes: 64 << 10,
        ..Setup::default()
    };
    let (mut harness, mut connection) = opened(setup);
    harness.give(&connection.server(b"alice\n"));
    harness.work();
    for number in 0..20_000u16 {
        let mut flood = Connection::from((3 + (number % 200) as u8, 20_000 + number));
        let [open, ..] = flood.open();
        harness.give_after(MILLISECOND / 100, &open);
        if number % 64 == 0 {
            harness.work();
        }
    }
    harness.give(&connection.client(b"alice\n"));
    harness.finish();
    assert_eq!(harness.numbers(), [0, 1, 2, 3, 4, 20_005]);
    harness.check_ledger();
}

#[test]
fn resets_end_sessions() {
    let (mut harness, mut connection) = opened(Setup::default());
    harness.give(&connection.client(b"al"));
    harness.give(&connection.packet(1, RST | ACK, b""));
    harness.work();
    harness.finish();
    assert!(harness.arrived().is_empty());
    assert_eq!(harness.held_bytes(), 0);
    harness.check_ledger();
}

#[test]
fn a_full_tx_ring_delays_and_loses_nothing() {
    let setup = Setup {
        tx_bytes: 4096,
        users: vec![],
        ..Setup::default()
    };
    let (mut harness, mut connection) = opened(setup);
    for _ in 0..100 {
        harness.give(&connection.client(b"some line of some length\n"));
        harness.give(&connection.server(b"its answer\n"));
    }
    harness.finish();
    assert_eq!(harness.numbers(), (0..204).collect::<Vec<_>>());
    harness.check_ledger();
}

/// What happens to one of some connections: who speaks, which line, in how many pieces, and which of them come late or again.
#[derive(Debug, Clone)]
struct Step {
    connection: usize,
    side: usize,
    word: &'static str,
    pieces: usize,
    swap: bool,
    again: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let word = prop::sample::select(vec!["alice\n", "bob\n", "carol dave\n", "x\n"]);
    let step = (
        0..4usize,
        0..2usize,
        word,
        1..4usize,
        any::<bool>(),
        any::<bool>(),
    );
    let step = step.prop_map(|(connection, side, word, pieces, swap, again)| Step {
        connection,
        side,
        word,
        pieces,
        swap,
        again,
    });
    prop::collection::vec(step, 1..40)
}

/// The packets of some steps.
fn packets(steps: &[Step]) -> Vec<Vec<u8>> {
    let mut connections = BTreeMap::new();
    let mut packets = Vec::new();
    for step in steps {
        let port = 40_000 + step.connection as u16;
        let connection = connections.entry(port).or_insert_with(|| {
            let mut connection = Connection::from((1, port));
            packets.extend(connection.open());
            packets.push(connection.client(BANNER));
            connection
        });
        let bytes = step.word.as_bytes();
        let mut pieces: Vec<_> = bytes
            .chunks(bytes.len().div_ceil(step.pieces))
            .map(|piece| connection.packet(step.side, ACK, piece))
            .collect();
        if step.again {
            pieces.push(pieces[0].clone());
        }
        if step.swap {
            pieces.reverse();
        }
        packets.append(&mut pieces);
    }
    for mut connection in connections.into_values() {
        packets.extend(connection.close());
    }
    packets
}

/// The packets that arrive when a worker dies so often, and how often it did.
fn outcome(steps: &[Step], batch: usize, deaths: &[(usize, usize)]) -> (Vec<u64>, usize) {
    let mut harness = harness(Setup::default());
    harness.batch = batch;
    harness.play_with_deaths(&packets(steps), deaths);
    (harness.numbers(), harness.deaths)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A worker that dies at a border of its commits is succeeded by one that forwards what it would have.
    #[test]
    fn a_successor_forwards_the_same(
        steps in steps(),
        batch in 1..5usize,
        deaths in prop::collection::vec((0..40usize, 0..3usize), 0..4),
    ) {
        let (mut expected, _) = outcome(&steps, batch, &[]);
        let (mut found, deaths) = outcome(&steps, batch, &deaths);
        expected.sort_unstable();
        found.sort_unstable();
        prop_assert_eq!(found, expected, "after {} deaths", deaths);
    }
}
