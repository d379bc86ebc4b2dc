//! See `divvy_fuzz::tokenizer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| divvy_fuzz::tokenizer(input));
