//! See [`lc_fuzz::rtp`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lc_fuzz::rtp::check(bytes));
