//! See [`lc_fuzz::filters`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lc_fuzz::filters::check(bytes));
