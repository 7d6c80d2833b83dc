//! See [`lc_fuzz::sip_stream`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lc_fuzz::sip_stream::check(bytes));
