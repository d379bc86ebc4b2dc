//! What decomposers write: it is read the same once it is written in our own way, and never more than the cap.
#![no_main]

use divvy_core::{
    chat::Finish,
    prompts::decompose::{completion, parse},
};

const CAP: usize = 8;

libfuzzer_sys::fuzz_target!(|text: &str| {
    for finish in [Finish::Stop, Finish::Length] {
        let Some(read) = parse(text, &finish, CAP).decomposition else { continue };
        assert!(read.steps().len() <= CAP);
        let again = parse(&completion(&read), &Finish::Stop, CAP);
        assert_eq!(again.decomposition.map(|again| again.steps().len()), Some(read.steps().len()), "{text:?}");
    }
});
