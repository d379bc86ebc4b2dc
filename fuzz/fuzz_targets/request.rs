//! What clients send to `divvy serve`: any bytes are a request or a refusal with a status of the caller's.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| divvy_serve::fuzzing::requests(body));
