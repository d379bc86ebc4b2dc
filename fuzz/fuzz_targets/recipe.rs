//! See `divvy_fuzz::recipe`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| divvy_fuzz::recipe(input));
