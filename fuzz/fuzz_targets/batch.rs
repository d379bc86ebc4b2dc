//! Rows of the files that a Batch API gives back: a reply, or why there is none.
#![no_main]

libfuzzer_sys::fuzz_target!(|line: &[u8]| divvy_llm::fuzzing::batch_row(line));
