//! What endpoints say of their limits: headers, one a line, as `name: value`.
#![no_main]

libfuzzer_sys::fuzz_target!(|lines: &str| divvy_llm::fuzzing::limits(lines));
