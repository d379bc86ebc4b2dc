//! The decomposer's prompt where it hears each answer before it asks on (Self-Ask, arXiv 2210.03350, without its
//! demonstrations), and the parser of its reply: the next subquestion, or that what is known is enough.

use super::{
    BuiltIn, Demonstration, PromptId, PromptName, Prompts, demonstration, material,
    parse::{self, letters_and_digits, parse},
    stepwise::{Known, so_far},
    template::Place,
};
use crate::{
    chat::{Finish, Message},
    question::Question,
    thoughts::without_thoughts,
};

pub(super) const BUILT_IN: BuiltIn = BuiltIn {
    system: "You break questions into subquestions.",
    template: "A question is answered with the help of subquestions that are asked one at a time. Write the one subquestion \
               that helps most now, on one line. Do not answer it. When what is known is enough to answer the question, \
               write: Enough\n\n{question}{known}",
    places: &[Place::needed("question"), Place::needed("known")],
    parser_version: parse::VERSION,
};

/// What a decomposer says when it has nothing more to ask.
pub(super) const ENOUGH: &str = "Enough";

/// What a decomposer wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Ask(String),
    /// It said so, or it repeats what was answered already.
    Enough,
    Unreadable,
}

#[must_use]
pub fn messages(prompts: &Prompts, shots: &[Demonstration], question: &Question, known: &[Known]) -> Vec<Message> {
    demonstration::shown(shots, (question, known), |question, known| {
        let places = [("question", &*material(question)), ("known", &*so_far(known))];
        prompts.write(PromptName::SelfAsk, &places)
    })
}

/// Reads a reply. Of several subquestions the first that was not asked yet counts.
#[must_use]
pub fn parse_next(reply: &str, finish: &Finish, known: &[Known]) -> Next {
    if without_thoughts(reply).lines().find(|line| !letters_and_digits(line).is_empty()).is_some_and(says_enough) {
        return Next::Enough;
    }
    let Some(decomposition) = parse(reply, finish, usize::MAX).decomposition else { return Next::Unreadable };
    let asked =
        |text: &str| known.iter().any(|known| letters_and_digits(&known.subquestion) == letters_and_digits(text));
    let new = decomposition.steps().iter().find(|step| !asked(&step.text));
    new.map_or(Next::Enough, |step| Next::Ask(step.text.clone()))
}

/// "Enough", whatever mark or label stands before it and whatever sentence behind; but not a question that begins so.
fn says_enough(line: &str) -> bool {
    let is_label = |text: &str| text.to_ascii_lowercase().contains("question");
    let said = line.split_once(": ").filter(|(label, _)| is_label(label)).map_or(line, |(_, said)| said);
    let said = said.trim_start_matches(|c: char| !c.is_alphabetic());
    let behind =
        said.get(..ENOUGH.len()).filter(|word| word.eq_ignore_ascii_case(ENOUGH)).map(|_| &said[ENOUGH.len()..]);
    behind.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric) && !rest.trim_end().ends_with('?'))
}

#[must_use]
pub fn prompt_id(prompts: &Prompts, shots: &[Demonstration]) -> PromptId {
    let known = [Known { subquestion: "SUBQUESTION".to_owned(), answer: None }];
    PromptId::of(PromptName::SelfAsk, |question| {
        [messages(prompts, shots, question, &[]), messages(prompts, &[], question, &known)].concat()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        prompts::tests::{question, texts},
        question::ScorerKind,
    };

    fn known() -> [Known; 1] {
        [Known { subquestion: "How many does Ann buy?".to_owned(), answer: Some("6".to_owned()) }]
    }

    #[test]
    fn rendered() {
        let q = question(None, "Ann has 3 pens and buys twice as many. How many has she?", ScorerKind::Numeric);
        let messages = messages(&Prompts::default(), &[], &q, &known());
        let (system, user) = texts(&messages);
        assert_eq!(system, "You break questions into subquestions.");
        assert_eq!(
            user,
            "A question is answered with the help of subquestions that are asked one at a time. Write the one subquestion \
             that helps most now, on one line. Do not answer it. When what is known is enough to answer the question, \
             write: Enough\n\
             \n\
             Question: Ann has 3 pens and buys twice as many. How many has she?\n\
             \n\
             Answered so far:\n\
             1. How many does Ann buy?\n\
             Answer: 6"
        );
    }

    #[test]
    fn replies() {
        let ask = |text: &str| Next::Ask(text.to_owned());
        let cases = [
            ("What is 3 plus 6?", ask("What is 3 plus 6?")),
            ("2. What is 3 plus 6?", ask("What is 3 plus 6?")),
            ("Next subquestion:\nWhat is 3 plus 6?\n", ask("What is 3 plus 6?")),
            ("1. How many does Ann buy?\n2. What is 3 plus 6?", ask("What is 3 plus 6?")),
            ("How many does Ann buy?", Next::Enough),
            ("Enough", Next::Enough),
            ("**Enough.** Ann has nine.", Next::Enough),
            ("2. Enough", Next::Enough),
            ("- enough!", Next::Enough),
            ("Enough. The answer is: 9", Next::Enough),
            ("Enough: all is known.", Next::Enough),
            ("Enough information is given.", Next::Enough),
            ("Subquestion: Enough", Next::Enough),
            ("Enough eggs for how many cakes?", ask("Enough eggs for how many cakes?")),
            ("No decomposition", Next::Enough),
            ("<think>\n1. Who asks?\n</think>\nEnough", Next::Enough),
            ("Enough is known?\n</think>\nWhat is 3 plus 6?", ask("What is 3 plus 6?")),
            ("", Next::Unreadable),
            ("Ann has nine pens.", Next::Unreadable),
        ];
        for (reply, next) in cases {
            assert_eq!(parse_next(reply, &Finish::Stop, &known()), next, "{reply}");
        }
    }
}
