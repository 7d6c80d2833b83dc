//! See [`lc_fuzz::block`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lc_fuzz::block::check(bytes));
