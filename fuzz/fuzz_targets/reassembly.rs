//! See [`lc_fuzz::reassembly`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lc_fuzz::reassembly::check(bytes));
