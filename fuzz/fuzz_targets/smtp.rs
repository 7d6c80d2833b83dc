//! See [`lc_fuzz::mail::smtp`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lc_fuzz::mail::smtp(bytes));
