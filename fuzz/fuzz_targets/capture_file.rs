//! Any bytes as a capture file: read to an end or to an error, with every packet within its bounds.

#![no_main]

use lc_capd::source::file::{Files, MAX_PACKET};
use lc_capd::source::{Interfaces, Pace, Poll, Source};
use libfuzzer_sys::fuzz_target;
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

fuzz_target!(|bytes: &[u8]| {
    let path = std::env::temp_dir().join(format!("lc-fuzz-{}", std::process::id()));
    let written = std::fs::File::create(&path).and_then(|mut file| file.write_all(bytes));
    if written.is_err() {
        return;
    }
    let Ok(mut files) = Files::open(&[path], Arc::new(Interfaces::default()), Pace::Max) else {
        return;
    };
    // Each packet takes at least a record header of the file, compressed at most 1000 times.
    for _ in 0..bytes.len() * 1000 + 2 {
        let polled = files.poll(64, &mut |packet| {
            assert!(packet.data.len() <= MAX_PACKET);
            ControlFlow::Continue(())
        });
        if matches!(polled, Ok(Poll::Finished)) {
            return;
        }
    }
    panic!("the file did not end");
});
