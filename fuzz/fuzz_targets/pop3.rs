//! See [`lc_fuzz::mail::pop3`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lc_fuzz::mail::pop3(bytes));
