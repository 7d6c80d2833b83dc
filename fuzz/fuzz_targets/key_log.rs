//! See [`lc_fuzz::key_log::check`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lc_fuzz::key_log::check(bytes));
