//! See `divvy_fuzz::shards`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| divvy_fuzz::shards(input));
