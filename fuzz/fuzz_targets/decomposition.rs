//! See `divvy_fuzz::decomposition`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| divvy_fuzz::decomposition(input));
