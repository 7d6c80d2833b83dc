//! See [`lc_fuzz::dns_stream`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lc_fuzz::dns_stream::check(bytes));
