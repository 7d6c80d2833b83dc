//! Random payloads are nothing: at most one in a thousand may be taken for a protocol.

use lc_workerd::detect::{Context, Detector, Flow, Layer};
use std::collections::BTreeMap;

const PAYLOADS: u32 = 100_000;
/// Payloads are cut from as many random bytes, each at a place of its own.
const POOL: usize = 8 << 20;

/// SplitMix64, so that every run sees the same bytes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn check(layer: Layer, port: Option<u16>) {
    let mut random = Random(4);
    let mut detector = Detector::new();
    let mut found = BTreeMap::<&str, u32>::new();
    let mut pool = Vec::with_capacity(POOL);
    while pool.len() < POOL {
        pool.extend(random.next().to_le_bytes());
    }
    for _ in 0..PAYLOADS {
        let len = 20 + random.below(1381) as usize;
        let start = random.below((POOL - len) as u64) as usize;
        let mut any = || 1024 + random.below(64512) as u16;
        let ports = (any(), port.unwrap_or_else(any));
        let context = Context::new(layer, ports, &pool[start..start + len]);
        if let Some(verdict) = detector.observe(&context, &mut Flow::default()) {
            *found.entry(verdict.protocol.name()).or_default() += 1;
        }
    }
    let total: u32 = found.values().sum();
    println!("{layer:?} {port:?}: {total} of {PAYLOADS}: {found:?}");
    assert!(total * 1000 <= PAYLOADS, "{layer:?} {port:?}: {found:?}");
}

#[test]
fn random_datagrams_are_nothing() {
    for port in [None, Some(53), Some(443), Some(5060)] {
        check(Layer::Udp, port);
    }
}

#[test]
fn random_segments_are_nothing() {
    for port in [None, Some(53), Some(443), Some(5060)] {
        check(Layer::Tcp, port);
    }
}
