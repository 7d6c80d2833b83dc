//! Any packets of one flow: detection and description stay within them.

#![no_main]

use lc_workerd::detect::{Context, Details, Detector, Flow, Layer};
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;

thread_local! {
    /// One for all inputs: making one costs far more than an input does.
    static WORKER: RefCell<(Detector, Details)> = RefCell::default();
}

fuzz_target!(|input: (u8, u16, u16, u8, u8, Vec<(bool, u32, Vec<u8>)>)| {
    WORKER.with_borrow_mut(|(detector, details)| {
        let (layer, source, destination, tcp_flags, traffic_class, packets) = &input;
        let layer = Layer::ALL[usize::from(*layer) % Layer::COUNT];
        let mut flow = Flow::default();
        for (forward, millisecond, payload) in packets {
            let mut context = Context::new(layer, (*source, *destination), payload);
            context.forward = *forward;
            context.time_ns = u64::from(*millisecond) * 1_000_000;
            context.tcp_flags = *tcp_flags;
            context.traffic_class = *traffic_class;
            detector.observe(&context, &mut flow);
            detector.describe(&context, &mut flow, details);
        }
    });
});
