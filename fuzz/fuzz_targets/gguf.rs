//! See `divvy_fuzz::gguf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| divvy_fuzz::gguf(input));
