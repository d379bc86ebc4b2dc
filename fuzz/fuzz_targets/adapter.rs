//! See `divvy_fuzz::adapter`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| divvy_fuzz::adapter(input));
