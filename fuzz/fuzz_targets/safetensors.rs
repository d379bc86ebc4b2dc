//! See `divvy_fuzz::safetensors`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| divvy_fuzz::safetensors(input));
