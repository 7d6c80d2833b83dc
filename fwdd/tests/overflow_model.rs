//! The disk overflow against a simple model, under faults at any operation, kills, power cuts and damage.
#![allow(clippy::unwrap_used)]

mod disk;

use std::time::{Duration, Instant};

use disk::{FakeDisk, Fault};
use lc_fwdd::overflow::{
    Appended, Counters, Options, Policy, Span, Store, SyncPolicy, Unavailable,
};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// Bytes of a segment that holds no records.
const SEGMENT_HEADER: usize = 80;

#[derive(Debug, Clone)]
enum Step {
    Append {
        packets: u32,
        bytes: usize,
        /// Whether the caller keeps it in flight, if it can.
        held: bool,
    },
    Read,
    Acknowledge(usize),
    Rewind,
    Sync,
    Wait(u64),
    Faults(Vec<Option<Fault>>),
    Restart,
    Kill,
    CutPower(Vec<u8>),
    Damage {
        segment: usize,
        at: usize,
        len: usize,
    },
    DamagePosition,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fault = prop_oneof![
        Just(Fault::NoSpace),
        Just(Fault::Io),
        Just(Fault::ReadOnly),
        Just(Fault::Torn),
        Just(Fault::TornFull),
    ];
    let faults = prop::collection::vec(prop::option::weighted(0.4, fault), 1..6);
    let step = prop_oneof![
        12 => (1..5u32, 8..6000usize, any::<bool>())
            .prop_map(|(packets, bytes, held)| Step::Append { packets, bytes, held }),
        6 => Just(Step::Read),
        4 => (0..4usize).prop_map(Step::Acknowledge),
        1 => Just(Step::Rewind),
        1 => Just(Step::Sync),
        2 => (1..3000u64).prop_map(Step::Wait),
        2 => faults.prop_map(Step::Faults),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
        1 => prop::collection::vec(any::<u8>(), 32).prop_map(Step::CutPower),
        1 => (0..4usize, 0..20_000usize, 1..200usize)
            .prop_map(|(segment, at, len)| Step::Damage { segment, at, len }),
        1 => Just(Step::DamagePosition),
    ];
    prop::collection::vec(step, 1..150)
}

fn options() -> impl Strategy<Value = Options> {
    let policy = prop_oneof![Just(Policy::DropOldest), Just(Policy::DropNewest)];
    let sync = prop_oneof![
        Just(SyncPolicy::Never),
        Just(SyncPolicy::EveryRecord),
        Just(SyncPolicy::Every(Duration::from_millis(500))),
    ];
    (60_000..200_000u64, policy, sync).prop_map(|(limit, policy, sync)| Options {
        limit,
        policy,
        sync,
    })
}

/// What the model knows of a record.
struct Entry {
    packets: u32,
    bytes: Vec<u8>,
    number: u64,
    /// Whether the store has taken it in.
    stored: bool,
    acknowledged: bool,
    delivered: bool,
    /// A power cut may have taken it.
    excused: bool,
}

struct Model {
    disk: FakeDisk,
    options: Options,
    store: Option<Store<FakeDisk>>,
    now: Instant,
    /// By identity, which the payload begins with.
    entries: Vec<Entry>,
    in_flight: Vec<(u64, usize)>,
    /// Identity of the last record read in this pass.
    last: Option<usize>,
    too_long: Span,
    /// Packets dropped and lost in former processes.
    counted: u64,
    /// Whether counts are exact, and not only enough.
    exact: bool,
    /// Whether an acknowledged record may come again.
    again: bool,
    /// Whether a record that was refused may be on disk.
    refused: bool,
    /// Whether bytes of segments were changed.
    damaged: bool,
}

impl Model {
    fn new(options: Options) -> Self {
        let mut model = Self {
            disk: FakeDisk::default(),
            options,
            store: None,
            now: Instant::now(),
            entries: Vec::new(),
            in_flight: Vec::new(),
            last: None,
            too_long: Span::default(),
            counted: 0,
            exact: true,
            again: false,
            refused: false,
            damaged: false,
        };
        model.open();
        model
    }

    fn store(&mut self) -> &mut Store<FakeDisk> {
        self.store.as_mut().unwrap()
    }

    fn open(&mut self) {
        let (store, _) = Store::open(self.disk.clone(), self.options, self.now).unwrap();
        self.store = Some(store);
        self.in_flight.clear();
        self.last = None;
        self.too_long = Span::default();
        self.refused = false;
    }

    /// Takes note of the counters of a process that ends.
    fn end(&mut self) -> Store<FakeDisk> {
        let store = self.store.take().unwrap();
        let counters = store.counters();
        self.counted += counters.dropped_oldest.packets + counters.lost.packets;
        // A position that could not be written is an older one.
        if counters.write_errors > 0 {
            self.again = true;
            self.exact = false;
        }
        self.exact &= !self.refused;
        store
    }

    fn step(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Append {
                packets,
                bytes,
                held,
            } => {
                let held = held && self.store().is_read();
                let stored = self.append(packets, bytes);
                if let Some(number) = stored.filter(|_| held) {
                    self.store().pass_appended();
                    let identity = self.entries.len() - 1;
                    self.entries[identity].delivered = true;
                    self.last = Some(identity);
                    self.in_flight.push((number, identity));
                }
            }
            Step::Read => self.read(),
            Step::Acknowledge(index) => self.acknowledge(index),
            Step::Rewind => {
                self.store().rewind();
                self.in_flight.clear();
                self.last = None;
            }
            Step::Sync => drop(self.store().sync(now)),
            Step::Wait(milliseconds) => {
                self.now += Duration::from_millis(milliseconds);
                let now = self.now;
                self.store().tick(now);
            }
            Step::Faults(faults) => self.disk.plan(faults),
            Step::Restart => {
                let closed = self.end().close(now);
                if closed.is_err() {
                    self.again = true;
                    self.exact = false;
                }
                self.disk.plan([]);
                self.open();
            }
            Step::Kill => {
                drop(self.end());
                self.disk.plan([]);
                self.open();
            }
            Step::CutPower(chances) => {
                let store = self.end();
                let durable = store.durable();
                drop(store);
                for entry in &mut self.entries {
                    entry.excused |= !entry.stored || entry.number >= durable;
                }
                let mut chances = chances.into_iter().cycle();
                self.disk.cut_power(|| chances.next().unwrap());
                (self.again, self.exact) = (true, false);
                self.disk.plan([]);
                self.open();
            }
            Step::Damage { segment, at, len } => {
                // Not in the last segment: what is lost there, nothing else tells.
                let mut segments = self.disk.segments();
                segments.pop();
                if let Some(name) = segments.get(segment) {
                    self.damaged = true;
                    // A header alone says that records were dropped; without it they count as lost too.
                    self.exact &= self.disk.bytes(name).len() > SEGMENT_HEADER;
                    self.disk.edit(name, |bytes| {
                        let at = at % bytes.len().max(1);
                        for byte in bytes.iter_mut().skip(at).take(len) {
                            *byte ^= 0x5a;
                        }
                    });
                }
            }
            Step::DamagePosition => {
                if self.disk.names().iter().any(|name| name == "position") {
                    self.disk.edit("position", |bytes| bytes.fill(0xee));
                    (self.again, self.exact) = (true, false);
                }
            }
        }
        self.check();
    }

    fn append(&mut self, packets: u32, bytes: usize) -> Option<u64> {
        let identity = self.entries.len();
        let mut payload = (identity as u64).to_le_bytes().to_vec();
        // Some payloads hold what looks like records.
        let filler = b"\xa7LcR\x00\x01\x02\x03payload";
        payload.extend(filler.iter().cycle().take(bytes - 8));
        let now = self.now;
        let appended = self.store().append(packets, false, &payload, now);
        let number = match appended {
            Ok(Appended::Stored(number)) => Some(number),
            Ok(Appended::TooLong) => {
                self.too_long.records += 1;
                self.too_long.packets += u64::from(packets);
                None
            }
            Err(Unavailable { .. }) => None,
        };
        if number.is_some() {
            let (limit, counters) = (self.options.limit, self.store().counters());
            assert!(counters.bytes <= limit, "{counters:?}");
        }
        self.refused |= number.is_none();
        self.entries.push(Entry {
            packets,
            bytes: payload,
            number: number.unwrap_or_default(),
            stored: number.is_some(),
            acknowledged: false,
            delivered: false,
            excused: false,
        });
        number
    }

    fn read(&mut self) {
        let now = self.now;
        let Some(record) = self.store().read(now) else {
            return;
        };
        let identity = u64::from_le_bytes(record.payload[..8].try_into().unwrap()) as usize;
        let entry = &mut self.entries[identity];
        assert_eq!(record.payload, entry.bytes, "bytes of record {identity}");
        assert_eq!(record.packets, entry.packets);
        assert!(self.last < Some(identity), "order");
        assert!(
            !entry.acknowledged || self.again,
            "record {identity} comes again"
        );
        entry.delivered = true;
        self.last = Some(identity);
        self.in_flight.push((record.number, identity));
    }

    fn acknowledge(&mut self, index: usize) {
        let Some((number, _)) = self.in_flight.get(index).copied() else {
            return;
        };
        let now = self.now;
        let done: Vec<_> = self.in_flight.drain(..=index).collect();
        let acknowledged = self.store().acknowledge(number, now);
        assert_eq!(acknowledged.records, done.len() as u64);
        for (_, identity) in done {
            self.entries[identity].acknowledged = true;
        }
    }

    fn check(&mut self) {
        let too_long = self.too_long;
        let counters = self.store().counters();
        assert_balanced(&counters);
        assert_eq!(counters.too_long, too_long);
    }

    /// Everything is delivered now, and what is not is counted.
    fn finish(mut self) {
        self.disk.plan([]);
        self.store().rewind();
        (self.in_flight, self.last) = (Vec::new(), None);
        for _ in 0..10_000 {
            self.now += Duration::from_secs(2);
            let now = self.now;
            self.store().tick(now);
            self.read();
            self.acknowledge(0);
            if self.store().counters().waiting == Span::default() {
                break;
            }
        }
        self.check();
        assert_eq!(self.store().counters().waiting, Span::default());
        let missing: u64 = self
            .entries
            .iter()
            .filter(|entry| entry.stored && !entry.acknowledged && !entry.excused)
            .map(|entry| u64::from(entry.packets))
            .sum();
        let counters = self.store().counters();
        let counted = self.counted + counters.dropped_oldest.packets + counters.lost.packets;
        // With neither a position nor the head of the oldest segment, nobody knows that something was before.
        let unknown = self.again && self.damaged;
        assert!(
            unknown || missing <= counted,
            "{missing} missing, {counted} counted"
        );
        if self.exact {
            assert_eq!(missing, counted);
        }
        let now = self.now;
        let disk = self.disk.clone();
        self.end().close(now).unwrap();
        assert_eq!(disk.segments(), Vec::<String>::new());
    }
}

fn assert_balanced(counters: &Counters) {
    let Counters {
        recovered,
        appended,
        acknowledged,
        dropped_oldest,
        lost,
        waiting,
        ..
    } = *counters;
    for part in [|span: Span| span.records, |span: Span| span.packets] {
        assert_eq!(
            part(recovered) + part(appended),
            part(acknowledged) + part(dropped_oldest) + part(lost) + part(waiting),
            "{counters:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_goes_in_comes_out_in_order_or_is_counted(options in options(), steps in steps()) {
        let mut model = Model::new(options);
        for step in steps {
            model.step(step);
        }
        model.finish();
    }
}
