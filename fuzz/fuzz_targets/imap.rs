//! See [`lc_fuzz::mail::imap`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lc_fuzz::mail::imap(bytes));
