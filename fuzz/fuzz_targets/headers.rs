//! See [`lc_fuzz::headers`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lc_fuzz::headers::check(bytes));
