//! See `divvy_fuzz::batch`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| divvy_fuzz::batch(input));
