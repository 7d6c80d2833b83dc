//! The flow table against a naive model, and against hostile senders.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;
use shm_layout::counters::WorkerCounter;
use shm_layout::worker::WorkerCommit;

use super::clock::{Clock, Tick};
use super::life::{Life, Patience};
use super::table::MOST_REAPED;
use super::*;
use crate::decode::{Addr, Decoded, Transport};

const S: u64 = 1_000_000_000;
/// Most buckets that a look-up may visit.
const MOST_VISITED: u64 = 2;
const BATCH: usize = 64;

/// What detection remembers at most.
type Memory = [u64; 4];
type Table = FlowTable<Memory>;

const BUCKET: usize = 8 * Table::BYTES_PER_FLOW;

/// As large as asked for, in whole buckets.
fn table(bytes: usize) -> Table {
    Table::new(bytes, Seed::known(7), &Timeouts::default()).unwrap()
}

fn packet(transport: Transport, source: (u32, u16), destination: (u32, u16)) -> Decoded {
    Decoded {
        addresses: Some((Addr::V4(source.0), Addr::V4(destination.0))),
        ports: Some((source.1, destination.1)),
        transport: Some(transport),
        ..Decoded::default()
    }
}

fn udp(client: u32) -> Decoded {
    packet(Transport::Udp, (client, 4_000), (u32::MAX, 53))
}

fn back(packet: &Decoded) -> Decoded {
    Decoded {
        addresses: packet.addresses.map(|(a, b)| (b, a)),
        ports: packet.ports.map(|(a, b)| (b, a)),
        ..*packet
    }
}

fn probe(table: &Table, packet: &Decoded) -> Probe {
    table.probe(packet, Zone::NONE).unwrap()
}

/// Sends a packet; whether it began a flow.
fn begins(table: &mut Table, packet: &Decoded, time: u64, signal: Signal) -> bool {
    let probe = probe(table, packet);
    table.observe(&probe, time, signal).is_new
}

fn knows(table: &Table, packet: &Decoded) -> bool {
    table.find(&probe(table, packet)).is_some()
}

#[test]
fn both_directions_share_a_memory() {
    let mut table = table(1 << 20);
    let there = probe(&table, &udp(1));
    let again = probe(&table, &back(&udp(1)));
    let flow = table.observe(&there, 0, Signal::None);
    assert_eq!(
        (flow.direction, flow.is_new, *flow.memory),
        (Direction::Request, true, [0; 4])
    );
    flow.memory[0] = 5;
    let flow = table.observe(&again, S, Signal::None);
    assert_eq!(
        (flow.direction, flow.is_new, flow.memory[0]),
        (Direction::Response, false, 5)
    );
}

#[test]
fn zones_do_not_meet() {
    let mut table = table(1 << 20);
    for zone in 0..3 {
        let probe = table.probe(&udp(1), Zone::new(zone)).unwrap();
        assert!(table.observe(&probe, 0, Signal::None).is_new);
    }
}

#[test]
fn a_silent_flow_is_forgotten_to_the_tick() {
    let mut table = table(1 << 20);
    let silence = 60 * S;
    assert!(begins(&mut table, &udp(1), 0, Signal::None));
    assert!(!begins(&mut table, &udp(1), silence - S, Signal::None));
    // Another flow moves the clock.
    begins(&mut table, &udp(2), 2 * silence - 2 * S, Signal::None);
    assert!(knows(&table, &udp(1)));
    begins(&mut table, &udp(2), 2 * silence, Signal::None);
    assert!(!knows(&table, &udp(1)));
    assert!(begins(&mut table, &udp(1), 2 * silence, Signal::None));
    assert_eq!(table.counts().idle, 1);
}

#[test]
fn ports_are_used_again_after_the_end_only() {
    let mut table = table(1 << 20);
    let there = packet(Transport::Tcp, (1, 1_000), (2, 80));
    let mut send = |packet: &Decoded, signal| begins(&mut table, packet, 0, signal);
    assert!(send(&there, Signal::Open));
    assert!(!send(&back(&there), Signal::Accept));
    assert!(!send(&there, Signal::Open));
    assert!(!send(&there, Signal::Finish));
    assert!(!send(&there, Signal::Open));
    assert!(!send(&back(&there), Signal::Finish));
    assert!(!send(&there, Signal::None));
    assert!(send(&there, Signal::Open));
    assert_eq!(table.counts().over, 1);
}

#[test]
fn what_nobody_asks_for_is_reaped_in_small_steps() {
    let mut table = table(1 << 20);
    for client in 0..5_000 {
        begins(&mut table, &udp(client), 0, Signal::None);
    }
    assert_eq!(table.counts().live(), 5_000);
    begins(&mut table, &udp(5_000), 3_600 * S, Signal::None);
    let batches = table.capacity() / 8 / MOST_REAPED + 1;
    for _ in 0..batches {
        let before = table.visited();
        table.prepare(&[]);
        assert!(table.visited() - before <= MOST_REAPED as u64);
    }
    assert_eq!(table.counts().live(), 1);
    assert_eq!(table.counts().idle, 5_000);
}

#[test]
fn up_to_70_percent_nothing_is_evicted() {
    let mut table = table(4 << 20);
    let most = table.capacity() as u32 / 10 * 7;
    for client in 0..most {
        begins(&mut table, &udp(client), 0, Signal::None);
    }
    assert_eq!(table.counts().evicted, 0);
    assert!((0..most).all(|client| knows(&table, &udp(client))));
}

/// In the proportions of a million flows in 128 MiB, which the benchmark measures.
#[test]
fn a_flow_takes_less_than_200_bytes() {
    const FLOWS: u32 = 1_000_000 / 16;
    const BYTES: usize = (128 << 20) / 16;
    let mut table = table(BYTES);
    for client in 0..FLOWS {
        begins(&mut table, &udp(client), 0, Signal::None);
    }
    let counts = table.counts();
    assert_eq!((counts.live(), counts.evicted), (u64::from(FLOWS), 0));
    assert!(table.bytes() <= BYTES);
    assert!(table.bytes() / FLOWS as usize <= 200);
}

#[test]
fn what_was_counted_is_reported_once() {
    let mut table = table(BUCKET);
    let mut commit = WorkerCommit::default();
    for client in 0..20 {
        begins(&mut table, &udp(client), 0, Signal::None);
    }
    table.report(&mut commit);
    table.report(&mut commit);
    let read = |commit: &WorkerCommit| {
        use WorkerCounter::{FlowsCreated, FlowsEvicted, FlowsLost};
        [FlowsCreated, FlowsEvicted, FlowsLost].map(|counter| commit.get(counter))
    };
    assert_eq!(read(&commit), [20, 12, 0]);
    Counts::succeed(&mut commit);
    Counts::succeed(&mut commit);
    assert_eq!(read(&commit), [20, 12, 8]);
}

#[test]
fn too_much_memory_is_refused() {
    let refused = Table::new(usize::MAX, Seed::known(1), &Timeouts::default()).err();
    let message = refused.unwrap().to_string();
    assert!(message.contains("hunter.flow_table_mb"), "{message}");
}

#[test]
fn ten_times_more_flows_than_fit_cost_memory_to_nobody_and_room_to_themselves() {
    let mut table = table(1 << 20);
    let bytes = table.bytes();
    // Conversations, which a flood of single packets must not drive out.
    let established: Vec<Decoded> = (0..500).map(|n| udp(1 << 31 | n)).collect();
    for packet in &established {
        begins(&mut table, packet, 0, Signal::None);
        begins(&mut table, &back(packet), 0, Signal::None);
    }
    let flood = table.capacity() * 10;
    let mut time = 0;
    for batch in 0..flood / BATCH {
        let clients = batch * BATCH..(batch + 1) * BATCH;
        let probes: Vec<Probe> = clients.map(|n| probe(&table, &udp(n as u32))).collect();
        let before = table.visited();
        table.prepare(&probes);
        for probe in &probes {
            time += 1_000_000;
            table.observe(probe, time, Signal::None);
        }
        let steps = table.visited() - before;
        assert!(steps <= MOST_REAPED as u64 + BATCH as u64 * MOST_VISITED);
        assert!(table.counts().live() <= table.capacity() as u64);
    }
    assert_eq!(table.bytes(), bytes);
    assert!(table.counts().evicted > 0);
    assert!(established.iter().all(|packet| knows(&table, packet)));
}

#[test]
fn flows_that_collide_harm_their_own_buckets_only() {
    let mut table = table(17 * BUCKET);
    let others: Vec<Decoded> = (0..40).map(|n| udp(1 << 31 | n)).collect();
    for packet in &others {
        begins(&mut table, packet, 0, Signal::None);
    }
    // A sender who knows the secret: all in the same two buckets.
    let target = table.buckets_of(&probe(&table, &udp(0)));
    let colliding: Vec<Decoded> = (0..u32::MAX)
        .map(udp)
        .filter(|packet| table.buckets_of(&probe(&table, packet)) == target)
        .take(200)
        .collect();
    let before = table.visited();
    for packet in &colliding {
        begins(&mut table, packet, 0, Signal::None);
    }
    assert_eq!(
        table.visited() - before,
        colliding.len() as u64 * MOST_VISITED
    );
    let known = colliding.iter().filter(|one| knows(&table, one)).count();
    assert!(known <= 16, "{known}");
    for packet in &others {
        let buckets = table.buckets_of(&probe(&table, packet));
        let touched = buckets.iter().any(|bucket| target.contains(bucket));
        assert!(touched || knows(&table, packet));
    }
    // Under a secret that the sender does not know the same flows do not collide.
    let mut other = Table::new(64 * BUCKET, Seed::random(), &Timeouts::default()).unwrap();
    for packet in &colliding {
        begins(&mut other, packet, 0, Signal::None);
    }
    assert_eq!(other.counts().live(), 200);
}

/// A packet of the property tests.
#[derive(Debug, Clone)]
struct Step {
    hosts: (u8, u8),
    transport: Transport,
    zone: u32,
    signal: Signal,
    time: Time,
    prepared: bool,
}

#[derive(Debug, Clone)]
enum Time {
    On(u64),
    Back(u64),
}

fn steps(hosts: u8, most: usize) -> impl Strategy<Value = Vec<Step>> {
    let transport = prop_oneof![
        Just(Transport::Tcp),
        Just(Transport::Udp),
        Just(Transport::Icmp)
    ];
    let signal = prop_oneof![
        4 => Just(Signal::None),
        1 => Just(Signal::Open),
        1 => Just(Signal::Accept),
        2 => Just(Signal::Finish),
        1 => Just(Signal::Abort),
    ];
    let time = prop_oneof![
        8 => (0..2 * S).prop_map(Time::On),
        3 => (0..400 * S).prop_map(Time::On),
        1 => (0..u64::MAX / 4).prop_map(Time::On),
        2 => (0..20 * S).prop_map(Time::Back),
        1 => any::<u64>().prop_map(Time::Back),
    ];
    let step = (
        (0..hosts, 0..hosts),
        transport,
        0..2_u32,
        signal,
        time,
        any::<bool>(),
    );
    let step = step.prop_map(|(hosts, transport, zone, signal, time, prepared)| Step {
        hosts,
        transport,
        zone,
        signal,
        time,
        prepared,
    });
    proptest::collection::vec(step, 1..most)
}

/// Hosts in order, transport, zone.
type Endpoints = ((u8, u8), u8, u32);

/// What the table should do if it had no bounds.
struct Model {
    flows: HashMap<Endpoints, Known>,
    clock: Clock,
    patience: Patience,
}

struct Known {
    initiator: u8,
    life: Life,
    deadline: Tick,
    number: u64,
}

impl Model {
    fn new() -> Self {
        Self {
            flows: HashMap::new(),
            clock: Clock::default(),
            patience: Patience::new(&Timeouts::default()),
        }
    }

    /// Direction and number of the packet's flow, and whether the packet began it with the number `next`.
    fn observe(&mut self, step: &Step, time: u64, next: u64) -> (Direction, u64, bool) {
        let (a, b) = step.hosts;
        self.clock.see(time);
        let now = self.clock.now();
        let key = step.key();
        let gone = self.flows.get(&key).is_none_or(|known| {
            known.deadline.has_come(now) || step.signal == Signal::Open && known.life.is_over()
        });
        if gone {
            let initiator = if step.signal == Signal::Accept { b } else { a };
            let known = Known {
                initiator,
                life: Life::begin(a <= b, step.signal),
                deadline: now,
                number: next,
            };
            self.flows.insert(key, known);
        }
        let known = self.flows.get_mut(&key).unwrap();
        known.life.see(a <= b, step.signal);
        known.deadline = now.plus(self.patience.of(step.transport as u8, known.life));
        let direction = match known.initiator == a {
            true => Direction::Request,
            false => Direction::Response,
        };
        (direction, known.number, gone)
    }
}

impl Step {
    fn key(&self) -> Endpoints {
        let (a, b) = self.hosts;
        ((a.min(b), a.max(b)), self.transport as u8, self.zone)
    }

    fn packet(&self) -> Decoded {
        let (a, b) = self.hosts;
        packet(self.transport, (a.into(), a.into()), (b.into(), b.into()))
    }
}

/// Sends the steps through table and model; the table may forget more than the model, but what it remembers must be right. Returns how often it
/// had forgotten.
fn compare(table: &mut Table, steps: &[Step]) -> Result<u64, TestCaseError> {
    let mut model = Model::new();
    let (mut time, mut forgotten) = (1_u64 << 62, 0);
    for (number, step) in steps.iter().enumerate() {
        let number = number as u64;
        time = match step.time {
            Time::On(by) => time.saturating_add(by),
            Time::Back(by) => time.saturating_sub(by),
        };
        let probe = table.probe(&step.packet(), Zone::new(step.zone)).unwrap();
        if step.prepared {
            table.prepare(&[probe]);
        }
        let (mut direction, mut expected, began) = model.observe(step, time, number);
        let flow = table.observe(&probe, time, step.signal);
        if flow.is_new && !began {
            forgotten += 1;
            // From here on both remember the same again.
            model.flows.remove(&step.key());
            (direction, expected, _) = model.observe(step, time, number);
        }
        prop_assert!(flow.is_new || !began);
        if flow.is_new {
            prop_assert_eq!(*flow.memory, [0; 4]);
            flow.memory[0] = number;
        }
        prop_assert_eq!(flow.memory[0], expected);
        // A packet from an endpoint to itself has no direction to tell.
        if step.hosts.0 != step.hosts.1 {
            prop_assert_eq!(flow.direction, direction);
        }
        prop_assert_eq!(table.find(&probe).map(|memory| memory[0]), Some(expected));
    }
    Ok(forgotten)
}

proptest! {
    #[test]
    fn with_room_it_remembers_exactly_what_the_model_does(steps in steps(5, 150)) {
        let mut table = table(64 << 10);
        prop_assert_eq!(compare(&mut table, &steps)?, 0);
        prop_assert_eq!(table.counts().evicted, 0);
    }

    #[test]
    fn without_room_it_forgets_but_never_mistakes(buckets in 1_usize..4, steps in steps(12, 150)) {
        let mut table = table(buckets * BUCKET);
        let forgotten = compare(&mut table, &steps)?;
        let counts = table.counts();
        prop_assert!(forgotten <= counts.evicted);
        prop_assert!(counts.live() <= table.capacity() as u64);
        let keys = table.keys();
        prop_assert_eq!(keys.len() as u64, counts.live());
        let distinct: HashSet<_> = keys.iter().collect();
        prop_assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn any_times_are_survived(times: Vec<u64>, timeout: u32) {
        let timeouts = Timeouts {
            unanswered: Duration::from_nanos(u64::from(timeout) << 32),
            ..Timeouts::default()
        };
        let mut table = Table::new(BUCKET, Seed::known(1), &timeouts).unwrap();
        for (client, time) in times.into_iter().enumerate() {
            let probe = probe(&table, &udp(client as u32 % 20));
            table.prepare(&[probe]);
            table.observe(&probe, time, Signal::None);
            prop_assert!(table.find(&probe).is_some());
        }
    }
}

#[test]
fn a_guess_is_right_where_no_other_flow_looks_alike() {
    let mut table = table(1 << 20);
    let packets: Vec<_> = (0..BATCH as u32).map(udp).collect();
    for (number, packet) in (0..).zip(&packets) {
        let probe = probe(&table, packet);
        assert_eq!(table.guess(&probe), None);
        table.observe(&probe, S, Signal::None).memory[0] = number;
    }
    let probes: Vec<_> = packets.iter().map(|packet| probe(&table, packet)).collect();
    table.prepare(&probes);
    let right = |(number, probe): &(u64, &Probe)| {
        table.guess(probe).map(|memory| memory[0]) == Some(*number)
    };
    // Tags have 15 bits of the hash, so that in a table that is next to empty hardly two are equal.
    assert_eq!((0..).zip(&probes).filter(right).count(), BATCH);
}
