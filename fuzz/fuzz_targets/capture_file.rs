//! Any bytes as a capture file: read to an end or to an error, with every packet within its bounds.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| lc_capd::source::file::fuzz(bytes));
