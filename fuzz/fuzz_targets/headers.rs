//! Any bytes as a packet of any link type: steering and decoding stay within them.

#![no_main]

use lc_workerd::decode::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (link_type, bytes) = input;
    lc_capd::steer::fuzz(link_type, bytes);
    let decoded = decode(link_type, bytes);
    assert!(decoded.payload <= bytes.len());
});
