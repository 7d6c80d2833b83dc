//! See [`lc_fuzz::packet`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lc_fuzz::packet::check(bytes));
