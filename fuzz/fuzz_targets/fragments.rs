//! See [`lc_fuzz::fragments`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lc_fuzz::fragments::check(bytes));
