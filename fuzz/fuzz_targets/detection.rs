//! See [`lc_fuzz::detection`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lc_fuzz::detection::check(bytes));
