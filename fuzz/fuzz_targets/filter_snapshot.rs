//! See [`lc_fuzz::filter_snapshot`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lc_fuzz::filter_snapshot::check(bytes));
