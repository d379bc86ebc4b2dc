//! See `divvy_fuzz::request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| divvy_fuzz::request(input));
