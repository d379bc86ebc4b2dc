//! The solver's prompt of the static two-stage strategy (paper, section 3): all subquestions are answered in one call,
//! then the question. Without subquestions it is the chain-of-thought prompt.

use super::{
    BuiltIn, Demonstration, PromptId, PromptName, Prompts, answer_form, cot, demonstration::Lesson, direct, material,
    one_line, template::Place,
};
use crate::{
    chat::Message,
    decomposition::{Decomposition, Subquestion},
    extract,
    question::Question,
    thoughts::without_thoughts,
};

pub(super) const BUILT_IN: BuiltIn = BuiltIn {
    system: "You are a careful assistant.",
    template: "{question}\n\nSubquestions:\n{subquestions}\n\nAnswer each subquestion in turn on a line of its own, with its \
               calculation.{references} Then answer the question on a last line: \"The answer is: X\", where {answer_form}.",
    places: &[
        Place::needed("question"),
        Place::needed("subquestions"),
        Place::optional("references"),
        Place::optional("answer_form"),
    ],
    parser_version: extract::VERSION,
};

/// Said only where a subquestion uses a reference, so that other data sets keep the shorter prompt.
const REFERENCES: &str = " In a subquestion, #1 stands for the answer to subquestion 1, #2 for that to 2, and so on.";

/// With demonstrations, each a question with its subquestions, asked in the same words. Where there is nothing to decompose none
/// is shown: they would be of another prompt.
#[must_use]
pub fn messages(
    prompts: &Prompts,
    shots: &[Demonstration],
    question: &Question,
    decomposition: &Decomposition,
) -> Vec<Message> {
    if decomposition.steps().is_empty() {
        return cot::messages(prompts, &[], question);
    }
    let mut messages = asked(prompts, question, decomposition.steps());
    let last = messages.pop();
    for shot in shots {
        let Lesson::Solution { subquestions, reply } = &shot.lesson else { continue };
        let steps = Decomposition::from_texts(subquestions);
        messages.extend(asked(prompts, &shot.as_question(question), steps.steps()).pop());
        messages.push(Message::assistant(reply.clone()));
    }
    messages.extend(last);
    messages
}

/// A reply to it: a line for each subquestion, then the answer.
#[must_use]
pub fn completion(answers: &[impl AsRef<str>], end: &str) -> String {
    let lines = answers.iter().enumerate().map(|(at, answer)| format!("{}. {}\n", at + 1, answer.as_ref()));
    lines.collect::<String>() + end
}

fn asked(prompts: &Prompts, question: &Question, steps: &[Subquestion]) -> Vec<Message> {
    let references = if steps.iter().any(|step| !step.refs.is_empty()) { REFERENCES } else { "" };
    let places = [
        ("question", &*material(question)),
        ("subquestions", &*numbered(steps)),
        ("references", references),
        ("answer_form", answer_form(question.scorer)),
    ];
    prompts.write(PromptName::TwoStage, &places)
}

/// `1. …` lines.
fn numbered(steps: &[Subquestion]) -> String {
    let lines: Vec<String> =
        steps.iter().enumerate().map(|(index, step)| format!("{}. {}", index + 1, one_line(&step.text))).collect();
    lines.join("\n")
}

/// What the solver answered to each subquestion: the lines under its number, or, where no line has one, as many lines
/// before the final answer as there are subquestions. `None` where the reply has nothing for it.
#[must_use]
pub fn sub_answers(reply: &str, steps: &[Subquestion]) -> Vec<Option<String>> {
    let reply = without_thoughts(reply);
    let body = extract::before_answer(reply).unwrap_or(reply);
    let lines: Vec<&str> = body.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut answers = vec![None::<String>; steps.len()];
    let mut current = None;
    for line in &lines {
        // A number that has its answer already belongs to a list within another one.
        match mark(line).filter(|(number, _)| answers.get(*number).is_some_and(|text| is_blank(text.as_deref()))) {
            Some((number, rest)) => {
                answers[number] = Some(without_question(rest, &steps[number].text).to_owned());
                current = Some(number);
            }
            None => {
                let Some(Some(answer)) = current.map(|number: usize| &mut answers[number]) else { continue };
                *answer = without_question(&format!("{answer} {line}"), "").to_owned();
            }
        }
    }
    if current.is_none() && lines.len() == steps.len() {
        return lines.into_iter().map(|line| Some(line.to_owned())).collect();
    }
    // The last subquestion is often answered by the final answer itself, behind its number.
    let last = answers.last_mut().filter(|answer| answer.as_deref() == Some(""));
    if let Some((last, final_answer)) = last.zip(extract::final_answer(reply)) {
        *last = Some(final_answer.text);
    }
    answers.into_iter().map(|answer| answer.filter(|text| !text.is_empty())).collect()
}

fn is_blank(text: Option<&str>) -> bool {
    text.is_none_or(str::is_empty)
}

/// A solver's reply with another final answer in place of its own (the paper's SE-A); `None` where it marks none, so that
/// nothing says which words would be its own. What stood behind it is left out.
#[must_use]
pub fn with_answer(reply: &str, answer: &str) -> Option<String> {
    let before = extract::before_answer(reply)?.trim_start();
    let (lines, last) = before.rsplit_once('\n').unwrap_or(("", before));
    // A number alone was the mark of the line that ended in the answer.
    let before = if mark(last).is_some_and(|(_, rest)| rest.is_empty()) { lines } else { before };
    let gap = if before.is_empty() { "" } else { "\n" };
    Some(format!("{before}{gap}{}", direct::completion(answer)))
}

/// `2. …`, `**2)** …`, `#2: …`, `Subquestion 2: …`: the number from 0, and what follows it.
fn mark(line: &str) -> Option<(usize, &str)> {
    const LABELS: [&str; 3] = ["subquestion", "answer", "step"];
    let line = line.trim_start_matches(['*', '#', '-', ' ']);
    let label = LABELS.iter().find(|label| begins(line, label));
    let line = label.map_or(line, |label| line[label.len()..].trim_start());
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: usize = line[..line.len() - rest.len()].parse().ok()?;
    let rest = rest.trim_start_matches('*');
    let rest = rest.strip_prefix(['.', ')', ':'])?;
    // `3.5 litres` is a figure, not the third answer.
    let glued = rest.starts_with(|c: char| c.is_ascii_digit());
    (number > 0 && !glued).then(|| (number - 1, rest.trim_start_matches(['*', ' '])))
}

/// Many solvers repeat the subquestion before they answer it, or label their answer.
fn without_question<'a>(text: &'a str, question: &str) -> &'a str {
    const LABELS: [&str; 2] = ["the answer is", "answer"];
    let edge = ['*', ':', ' '];
    let text = text.trim().strip_prefix(question.trim()).unwrap_or(text).trim_start_matches(edge);
    let label = LABELS.iter().find(|label| begins(text, label) && text[label.len()..].trim_start().starts_with(':'));
    label.map_or(text, |label| text[label.len()..].trim_start_matches(edge))
}

fn begins(text: &str, word: &str) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

#[must_use]
pub fn prompt_id(prompts: &Prompts, shots: &[Demonstration]) -> PromptId {
    let steps = Decomposition::from_texts(["SUBQUESTION", "SUBQUESTION #1"]);
    let plain = Decomposition::from_texts(["SUBQUESTION"]);
    PromptId::of(PromptName::TwoStage, |question| {
        [&steps, &plain, &Decomposition::None]
            .into_iter()
            .flat_map(|steps| messages(prompts, shots, question, steps))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        prompts::tests::{question, texts},
        question::ScorerKind,
    };

    #[test]
    fn rendered() {
        let q = question(None, "Ann has 3 pens and buys twice as many. How many has she?", ScorerKind::Numeric);
        let d = Decomposition::from_texts(["How many does Ann buy?", "What is 3 plus #1?"]);
        let messages = messages(&Prompts::default(), &[], &q, &d);
        let (system, user) = texts(&messages);
        assert_eq!(system, "You are a careful assistant.");
        assert_eq!(
            user,
            "Question: Ann has 3 pens and buys twice as many. How many has she?\n\
             \n\
             Subquestions:\n\
             1. How many does Ann buy?\n\
             2. What is 3 plus #1?\n\
             \n\
             Answer each subquestion in turn on a line of its own, with its calculation. In a subquestion, #1 stands for \
             the answer to subquestion 1, #2 for that to 2, and so on. Then answer the question on a last line: \"The \
             answer is: X\", where X is one number, in digits, without a unit."
        );
    }

    fn sub_answers_of(reply: &str) -> Vec<Option<String>> {
        let steps = Decomposition::from_texts(["How many does Ann buy?", "What is 3 plus #1?"]);
        sub_answers(reply, steps.steps())
    }

    #[test]
    fn sub_answers_stand_under_their_number() {
        let both = vec![Some("3 * 2 = 6".to_owned()), Some("3 + 6 = 9".to_owned())];
        for reply in [
            "1. 3 * 2 = 6\n2. 3 + 6 = 9\nThe answer is: 9",
            "**1.** How many does Ann buy? 3 * 2 = 6\n\n**2)** 3 + 6\n   = 9\n**The answer is: 9**",
            "Subquestion 1: 3 * 2 = 6\nstep 2. 3 + 6 = 9",
            "#1: 3 * 2 = 6\n#2: 3 + 6 = 9",
            "1. 3 * 2 = 6\n2. The answer is: 3 + 6 = 9",
            "1. How many does Ann buy?\n2. What is 3 plus #1?\n\n1. 3 * 2 = 6\n2. 3 + 6 = 9\nTherefore, the final answer is 9.",
            "1. How many does Ann buy?\nAnswer: 3 * 2 = 6\n2. What is 3 plus #1?\nAnswer: 3 + 6 = 9\n#### 9",
            "3 * 2 = 6\n3 + 6 = 9\nThe answer is: 9",
            "<think>\n1. Ann buys\n2. 3 plus\n</think>\n1. 3 * 2 = 6\n2. 3 + 6 = 9\nThe answer is: 9",
        ] {
            assert_eq!(sub_answers_of(reply), both, "{reply}");
        }
    }

    #[test]
    fn a_sub_answer_that_is_not_there_is_none() {
        assert_eq!(sub_answers_of("2. 3 + 6 = 9\nThe answer is: 9"), [None, Some("3 + 6 = 9".to_owned())]);
        assert_eq!(sub_answers_of("Ann has nine.\nThe answer is: 9"), [None, None]);
        assert_eq!(sub_answers_of(""), [None, None]);
        assert_eq!(sub_answers_of("1.\n3.5 litres, 7. 0) 9."), [Some("3.5 litres, 7. 0) 9.".to_owned()), None]);
    }

    #[test]
    fn the_final_answer_is_replaced_and_the_sub_answers_stay() {
        let cases = [
            ("1. 6\n2. 8\n**The answer is: 8**\n", "1. 6\n2. 8\nThe answer is: 9"),
            ("1. 6\n2. The answer is: 8. Ann has 8.", "1. 6\nThe answer is: 9"),
            ("1. 6\n2. So 3 + 6 = 8, the answer is 8.", "1. 6\n2. So 3 + 6 = 8\nThe answer is: 9"),
            (
                "1. The answer is 6.\n2. 3 + 6 = 8\nFinal answer: 8",
                "1. The answer is 6.\n2. 3 + 6 = 8\nThe answer is: 9",
            ),
            ("1. 6\n2. 8\n\nTherefore, the final answer is: $8", "1. 6\n2. 8\nThe answer is: 9"),
            ("1. 6\n2. 8\n#### 8", "1. 6\n2. 8\nThe answer is: 9"),
            ("1. 6\n2. 8\n\\(\\boxed{8}\\)", "1. 6\n2. 8\nThe answer is: 9"),
            ("1. 6\n2. 8\nThe answer is: \\boxed{8}", "1. 6\n2. 8\nThe answer is: 9"),
            ("1. 6\n2. 8\nThe answer is: $\\boxed{8}$.", "1. 6\n2. 8\nThe answer is: 9"),
            ("1. 6\n2. 8\n\n### Final Answer:\n#### 8", "1. 6\n2. 8\nThe answer is: 9"),
            ("1. 6\n2. $3+6=8$\nHence the correct answer is 8", "1. 6\n2. $3+6=8$\nThe answer is: 9"),
            ("1. 6\n**2. 8**\nThe answer is: 8", "1. 6\n**2. 8**\nThe answer is: 9"),
            ("The answer is: 8", "The answer is: 9"),
        ];
        for (reply, replaced) in cases {
            assert_eq!(with_answer(reply, "9").as_deref(), Some(replaced), "{reply}");
            assert_eq!(extract::final_answer(replaced).map(|found| found.text).as_deref(), Some("9"));
        }
        assert_eq!(with_answer("1. 6\n2. 8", "9"), None, "no words of the reply are its answer");
        assert_eq!(with_answer("", "9"), None);
        assert_eq!(with_answer("The answer is: 8", " a \n b ").as_deref(), Some("The answer is: a b"));
    }

    #[test]
    fn without_subquestions_it_is_chain_of_thought() {
        let q = question(None, "Who?", ScorerKind::Exact);
        let prompts = Prompts::default();
        for none in [Decomposition::None, Decomposition::Steps(Vec::new())] {
            assert_eq!(messages(&prompts, &[], &q, &none), cot::messages(&prompts, &[], &q));
        }
    }

    #[test]
    fn references_are_explained_only_where_used() {
        let q = question(None, "Who?", ScorerKind::Exact);
        let user = messages(&Prompts::default(), &[], &q, &Decomposition::from_texts(["When?", "Who then?"]))
            .remove(1)
            .content;
        assert!(!user.contains("stands for"), "{user}");
    }

    proptest::proptest! {
        #[test]
        fn no_reply_panics(reply in "(the answer|answer| is|:|####|\\\\boxed|\\{|\\*\\*|[0-3]|step|\\.|\\)|é| |\n){0,40}") {
            proptest::prop_assert_eq!(sub_answers_of(&reply).len(), 2);
            if let Some(replaced) = with_answer(&reply, "9") {
                proptest::prop_assert!(replaced.ends_with("The answer is: 9"), "{:?}", replaced);
            }
        }
    }
}
