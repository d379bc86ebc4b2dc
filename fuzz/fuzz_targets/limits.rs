//! See `divvy_fuzz::limits`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| divvy_fuzz::limits(input));
