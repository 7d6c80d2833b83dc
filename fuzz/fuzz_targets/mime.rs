//! See [`lc_fuzz::mail::mime`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lc_fuzz::mail::mime(bytes));
