//! See [`lc_fuzz::calls`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lc_fuzz::calls::check(bytes));
