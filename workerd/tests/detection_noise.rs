//! Random payloads are nothing: at most one in a thousand may be taken for a protocol.

use lc_workerd::detect::{Context, Detector, Flow, Layer};
use std::collections::BTreeMap;

const PAYLOADS: u32 = 20_000;

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
    let mut payload = Vec::new();
    for _ in 0..PAYLOADS {
        let len = 20 + random.below(1381) as usize;
        payload.clear();
        while payload.len() < len {
            payload.extend(random.next().to_le_bytes());
        }
        let mut any = || 1024 + random.below(64512) as u16;
        let ports = (any(), port.unwrap_or_else(any));
        let context = Context::new(layer, ports, &payload[..len]);
        if let Some(verdict) = detector.observe(&context, &mut Flow::default()) {
            *found.entry(verdict.protocol.name()).or_default() += 1;
        }
    }
    let total: u32 = found.values().sum();
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
