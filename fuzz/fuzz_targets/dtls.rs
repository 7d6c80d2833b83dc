//! See [`lc_fuzz::tls::check_dtls`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lc_fuzz::tls::check_dtls(bytes));
