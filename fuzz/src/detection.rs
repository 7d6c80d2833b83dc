//! Any packets of one flow: detected and described.

use std::cell::RefCell;

use lc_workerd::detect::{Context, Details, Detector, Flow, Layer};

use crate::Input;

thread_local! {
    /// One for all inputs: making one costs far more than an input does.
    static WORKER: RefCell<(Detector, Details)> = RefCell::default();
}

/// `bytes`: layer, two ports, TCP's flags, traffic class; then direction, milliseconds and payload of each packet.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let layer = Layer::ALL[usize::from(input.u8()) % Layer::COUNT];
    let ports = (input.u16(), input.u16());
    let (tcp_flags, traffic_class) = (input.u8(), input.u8());
    let mut flow = Flow::default();
    WORKER.with_borrow_mut(|(detector, details)| {
        while !input.is_empty() {
            let forward = input.u8().is_multiple_of(2);
            let time_ns = u64::from(input.u16()) * 1_000_000;
            let context = Context {
                forward,
                time_ns,
                tcp_flags,
                traffic_class,
                ..Context::new(layer, ports, input.packet())
            };
            detector.observe(&context, &mut flow);
            detector.describe(&context, &mut flow, details);
        }
    });
}
