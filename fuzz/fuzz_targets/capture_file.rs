//! See [`lc_fuzz::capture_file`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lc_fuzz::capture_file::check(bytes));
