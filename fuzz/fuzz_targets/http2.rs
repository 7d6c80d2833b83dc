//! See [`lc_fuzz::http2`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lc_fuzz::http2::check(bytes));
