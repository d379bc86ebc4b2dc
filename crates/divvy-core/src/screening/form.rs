//! The form of a decomposition, which tells without asking anybody that it is not worth learning, or not worth a solver's
//! time. What each condition measures is in [`crate::quality`].

use super::reason;
use crate::{
    prompts::decompose::Problem,
    quality::{leaks, refers_ahead, repeated},
    question::Question,
    recipe::Format,
    records::Collected,
};

/// Why this form is not what was asked for, by the first condition that it breaks; `None`: it is.
#[must_use]
pub fn fault(format: &Format, question: &Question, collected: &Collected) -> Option<&'static str> {
    let steps = collected.decomposition.steps();
    let cut_off = collected.problems.iter().filter(|problem| **problem == Problem::OverCap).count();
    if steps.len() < format.min_steps {
        Some(reason::TOO_FEW_STEPS)
    } else if format.max_steps.is_some_and(|most| steps.len() + cut_off > most) {
        Some(reason::TOO_MANY_STEPS)
    } else if !format.repeats && repeated(collected) {
        Some(reason::REPEATS)
    } else if !format.refers_ahead && refers_ahead(question, steps) {
        Some(reason::REFERS_AHEAD)
    } else if !format.leaks && leaks(question, steps, &[]) == Some(true) {
        Some(reason::LEAKS_ANSWER)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chat::Finish,
        prompts::{decompose::parse, tests::question},
        question::{Gold, ScorerKind},
    };

    const STRICT: Format = Format { min_steps: 0, max_steps: None, repeats: false, leaks: false, refers_ahead: false };

    /// What a teacher wrote, of which at most four subquestions are kept.
    fn written(reply: &str) -> Collected {
        let parsed = parse(reply, &Finish::Stop, 4);
        Collected {
            decomposition: parsed.decomposition.unwrap(),
            call: Some("key".to_owned()),
            problems: parsed.problems,
        }
    }

    #[track_caller]
    fn check(format: Format, reply: &str, expect: Option<&str>) {
        let mut asked = question(None, "Who rules the land of the #2 peak?", ScorerKind::Exact);
        asked.golds = vec![Gold::single("Queen Ann")];
        assert_eq!(fault(&format, &asked, &written(reply)), expect, "{reply}");
    }

    #[test]
    fn each_condition_has_its_reason() {
        let (two, again) = ("1. Where is it?\n2. Who rules #1?", "1. Where is it?\n2. Who rules #1?\n3. where is it?");
        check(STRICT, two, None);
        check(STRICT, "No decomposition", None);
        check(Format { min_steps: 1, ..STRICT }, "No decomposition", Some("too-few-steps"));
        check(Format { min_steps: 3, ..STRICT }, two, Some("too-few-steps"));
        check(Format { min_steps: 2, max_steps: Some(2), ..STRICT }, two, None);
        check(Format { max_steps: Some(1), ..STRICT }, two, Some("too-many-steps"));
        check(STRICT, again, Some("repeats"));
        check(Format { repeats: true, ..STRICT }, again, None);
        let leaking = "1. Where is it?\n2. Is queen Ann its ruler?";
        check(STRICT, leaking, Some("leaks-answer"));
        check(Format { leaks: true, ..STRICT }, leaking, None);
    }

    #[test]
    fn a_reference_goes_back_or_is_the_questions_own() {
        check(STRICT, "1. Where is #1?", Some("refers-ahead"));
        check(STRICT, "1. Where is it?\n2. Who rules #3?\n3. And who #1?", Some("refers-ahead"));
        check(STRICT, "1. Where is #0?", Some("refers-ahead"));
        check(Format { refers_ahead: true, ..STRICT }, "1. Where is #1?", None);
        check(STRICT, "1. Which is the #2 peak?\n2. Who rules #1?", None);
    }

    #[test]
    fn what_the_cap_has_cut_off_was_written_all_the_same() {
        let five = "1. A?\n2. B?\n3. C?\n4. D?\n5. E?";
        check(Format { max_steps: Some(4), ..STRICT }, five, Some("too-many-steps"));
        check(Format { max_steps: Some(5), ..STRICT }, five, None);
    }

    #[test]
    fn recorded_lines_speak_for_themselves() {
        let steps = crate::decomposition::Decomposition::from_texts(["Who?", "How many?", "who"]);
        let recorded = Collected { decomposition: steps, call: None, problems: Vec::new() };
        let asked = question(None, "How many?", ScorerKind::Exact);
        assert_eq!(fault(&STRICT, &asked, &recorded), Some("repeats"));
    }
}
