//! See `divvy_fuzz::checkpoint`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| divvy_fuzz::checkpoint(input));
