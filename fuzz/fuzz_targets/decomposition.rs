//! What decomposers write, by a schema and freely: never a panic, and never more subquestions than the cap, also when what was
//! read is written in our own way and read again. (That may give others: a text that begins with a label of its own loses it then.)
#![no_main]

use divvy_core::{
    chat::Finish,
    prompts::decompose::{Style, completion, parse, read},
};

const CAP: usize = 8;

libfuzzer_sys::fuzz_target!(|text: &str| {
    for finish in [Finish::Stop, Finish::Length] {
        for style in [Style::Free, Style::Structured] {
            let Some(read) = read(text, &finish, style, CAP).decomposition else { continue };
            assert!(read.steps().len() <= CAP && read.steps().iter().all(|step| !step.text.trim().is_empty()));
            let again = parse(&completion(&read), &Finish::Stop, CAP).decomposition;
            assert!(again.is_none_or(|again| again.steps().len() <= CAP));
        }
    }
});
