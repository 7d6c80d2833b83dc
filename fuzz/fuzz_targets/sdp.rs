//! See [`lc_fuzz::sdp`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lc_fuzz::sdp::check(bytes));
