//! What endpoints send: a chat completion, whole or as events, however the bytes are cut. The first byte is the size of
//! the pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some((size, body)) = input.split_first() {
        divvy_llm::fuzzing::reply(body, usize::from(*size).max(1));
    }
});
