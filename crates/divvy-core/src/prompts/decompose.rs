//! The decomposer's prompt, the completion a student is trained to write, and the parser that reads any decomposer's
//! reply. [`parse`] of a [`completion`] gives the decomposition back.

use serde::{Deserialize, Serialize};
use serde_json::json;

pub use super::parse::{Parsed, Problem, parse};
use super::{
    BuiltIn, PromptId, PromptName, Prompts, demonstration,
    demonstration::{Demonstration, Lesson},
    material,
    parse::VERSION,
    template::Place,
};
use crate::{
    chat::{Finish, Message, ReplyFormat},
    decomposition::Decomposition,
    question::Question,
    thoughts::without_thoughts,
};

const SYSTEM: &str = "You break questions into subquestions.";

/// The way out stands here and not in the instruction: in four wordings of that, a model of 1.5 billion parameters took it for
/// nearly every question, whatever its steps; here for none of 56 (LOG.md, 2026-11-25).
const SYSTEM_WITH_EXIT: &str =
    "You break questions into subquestions. Only to a question that takes a single step you say: No decomposition";

/// The cap is the paper's (three subquestions, two for Bamboogle); what a student is trained on decides better, so that
/// the prompt names one only where an arm has one.
const PLACES: &[Place] = &[Place::needed("question"), Place::optional("limit")];

pub(super) const FREE: BuiltIn = BuiltIn {
    system: SYSTEM_WITH_EXIT,
    template: "Break the question into the most helpful subquestions, in the order to answer them. Write one subquestion per \
               line, numbered 1., 2., 3. Do not answer them.{limit}\n\n{question}",
    places: PLACES,
    parser_version: VERSION,
};

pub(super) const JSON: BuiltIn = BuiltIn {
    system: SYSTEM,
    template: "Break the question into the most helpful subquestions, in the order to answer them. Do not answer \
               them.{limit} Write them as JSON: {{\"subquestions\": [\"…\", \"…\"]}}. If no subquestions are needed, the \
               list is empty.\n\n{question}",
    places: PLACES,
    parser_version: VERSION,
};

pub(super) const QUESTION_ONLY: BuiltIn =
    BuiltIn { system: SYSTEM, template: "{question}", places: &[Place::needed("question")], parser_version: VERSION };

/// What a decomposer says when a question needs no subquestions.
pub const NO_DECOMPOSITION: &str = "No decomposition";

/// In which words a decomposer is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    #[default]
    Free,
    /// No instruction: a student that was trained to decompose needs none, and a third of its input is saved.
    QuestionOnly,
    /// JSON by a schema ([`format()`]), where the endpoint holds the model to it.
    Structured,
}

impl Style {
    pub const ALL: [Self; 3] = [Self::Free, Self::QuestionOnly, Self::Structured];

    #[must_use]
    pub fn prompt(self) -> PromptName {
        match self {
            Self::Free => PromptName::Decompose,
            Self::QuestionOnly => PromptName::DecomposeQuestion,
            Self::Structured => PromptName::DecomposeJson,
        }
    }
}

/// How a decomposer is asked for a whole decomposition.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner<'a> {
    pub style: Style,
    /// It is told to write at most so many.
    pub most: Option<u32>,
    pub shots: &'a [Demonstration],
}

impl From<Style> for Manner<'_> {
    fn from(style: Style) -> Self {
        Self { style, ..Self::default() }
    }
}

#[must_use]
pub fn messages<'a>(prompts: &Prompts, manner: impl Into<Manner<'a>>, question: &Question) -> Vec<Message> {
    let Manner { style, most, shots } = manner.into();
    let limit = most.map(|most| format!(" Write at most {most}.")).unwrap_or_default();
    let write = |question: &Question, _: &[_]| {
        prompts.write(style.prompt(), &[("question", &*material(question)), ("limit", &*limit)])
    };
    match style {
        Style::Structured => {
            let shots: Vec<Demonstration> = shots.iter().map(in_json).collect();
            demonstration::shown(&shots, (question, &[]), write)
        }
        Style::Free | Style::QuestionOnly => demonstration::shown(shots, (question, &[]), write),
    }
}

/// The same demonstration as the schema wants it.
fn in_json(shot: &Demonstration) -> Demonstration {
    let Lesson::Reply(reply) = &shot.lesson else { return shot.clone() };
    let parsed = parse(reply, &Finish::Stop, usize::MAX).decomposition;
    let texts: Vec<&str> = parsed.iter().flat_map(|steps| steps.steps()).map(|step| step.text.as_str()).collect();
    Demonstration { lesson: Lesson::Reply(json!({ "subquestions": texts }).to_string()), ..shot.clone() }
}

/// What the endpoint is told of the reply; nothing where the prompt alone says it.
#[must_use]
pub fn format(style: Style) -> Option<Box<ReplyFormat>> {
    let schema = || {
        json!({
            "type": "object",
            "properties": { "subquestions": { "type": "array", "items": { "type": "string" } } },
            "required": ["subquestions"],
            "additionalProperties": false,
        })
    };
    (style == Style::Structured).then(|| Box::new(ReplyFormat { name: "decomposition".to_owned(), schema: schema() }))
}

/// A reply by the schema of [`format()`].
#[derive(Deserialize)]
struct Structured {
    subquestions: Vec<String>,
}

/// The reply is by the schema, or would be if it had come to its end.
#[must_use]
pub fn keeps_format(reply: &str, finish: &Finish) -> bool {
    let said = without_thoughts(reply);
    serde_json::from_str::<Structured>(said).is_ok()
        || (*finish == Finish::Length && said.trim_start().starts_with('{'))
}

/// Reads the reply to [`messages`] in this style. A model that did not keep to the schema is read as any other.
#[must_use]
pub fn read(reply: &str, finish: &Finish, style: Style, cap: usize) -> Parsed {
    if style != Style::Structured {
        return parse(reply, finish, cap);
    }
    let said = without_thoughts(reply);
    let read = match serde_json::from_str::<Structured>(said) {
        Ok(list) if list.subquestions.is_empty() => {
            Some(Parsed { decomposition: Some(Decomposition::None), problems: Vec::new() })
        }
        Err(_) if *finish == Finish::Length => cut_off(said, cap),
        _ => None,
    };
    read.map_or_else(|| parse(reply, finish, cap), |parsed| parsed.behind_thoughts_of(reply))
}

/// JSON that was cut off inside its list: the strings that are whole count.
fn cut_off(reply: &str, cap: usize) -> Option<Parsed> {
    const ENDS_TRIED: usize = 4;
    let ends = reply.rmatch_indices('"').map(|(at, _)| at + 1).take(ENDS_TRIED);
    let whole = ends
        .map(|end| format!("{}]}}", &reply[..end]))
        .find(|json| serde_json::from_str::<Structured>(json).is_ok())?;
    let mut parsed = parse(&whole, &Finish::Stop, cap);
    parsed.problems.push(Problem::UnfinishedLine);
    Some(parsed)
}

/// The training target: numbered lines, or [`NO_DECOMPOSITION`]. Line breaks inside a subquestion become spaces.
#[must_use]
pub fn completion(decomposition: &Decomposition) -> String {
    if decomposition.steps().is_empty() {
        return NO_DECOMPOSITION.to_owned();
    }
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = decomposition
        .steps()
        .iter()
        .enumerate()
        .map(|(index, step)| format!("{}. {}", index + 1, one_line(&step.text)))
        .collect();
    lines.join("\n")
}

#[must_use]
pub fn prompt_id<'a>(prompts: &Prompts, manner: impl Into<Manner<'a>>) -> PromptId {
    let manner = manner.into();
    let schema = format(manner.style).map(|format| Message::system(format.schema.to_string()));
    PromptId::of(manner.style.prompt(), |question| {
        messages(prompts, manner, question).into_iter().chain(schema.clone()).collect()
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
        let q = question(Some("Ann is 7. Bo is 9."), "How much older is Bo than Ann?", ScorerKind::Drop);
        let messages = messages(&Prompts::default(), Manner { most: Some(3), ..Manner::default() }, &q);
        let (system, user) = texts(&messages);
        assert_eq!(
            system,
            "You break questions into subquestions. Only to a question that takes a single step you say: No decomposition"
        );
        assert_eq!(
            user,
            "Break the question into the most helpful subquestions, in the order to answer them. Write one subquestion \
             per line, numbered 1., 2., 3. Do not answer them. Write at most 3.\n\
             \n\
             <passage>\n\
             Ann is 7. Bo is 9.\n\
             </passage>\n\
             \n\
             Question: How much older is Bo than Ann?"
        );
    }

    #[test]
    fn the_question_alone() {
        let q = question(None, "How many?", ScorerKind::Numeric);
        let messages = messages(&Prompts::default(), Style::QuestionOnly, &q);
        assert_eq!(texts(&messages), ("You break questions into subquestions.", "Question: How many?"));
    }

    #[test]
    fn as_json() {
        let q = question(None, "How many?", ScorerKind::Numeric);
        let messages = messages(&Prompts::default(), Style::Structured, &q);
        let (_, user) = texts(&messages);
        assert!(user.contains("{\"subquestions\": [\"…\", \"…\"]}") && user.ends_with("Question: How many?"), "{user}");
        assert_eq!(format(Style::Structured).unwrap().schema["required"], json!(["subquestions"]));
        assert_eq!(format(Style::Free), None);
    }

    #[test]
    fn replies_by_the_schema_and_others() {
        let steps = |texts: &[&str]| Some(Decomposition::from_texts(texts.iter().copied()));
        let two = steps(&["How old is Ann?", "How old is Bo?"]);
        let cases = [
            (r#"{"subquestions": ["How old is Ann?", "How old is Bo?"]}"#, Finish::Stop, true, two.clone()),
            ("{\n \"subquestions\": []\n}", Finish::Stop, true, Some(Decomposition::None)),
            ("1. How old is Ann?\n2. How old is Bo?", Finish::Stop, false, two.clone()),
            ("```json\n{\"subquestions\": [\"How old is Ann?\", \"How old is Bo?\"]}\n```", Finish::Stop, false, two),
            ("No decomposition", Finish::Stop, false, Some(Decomposition::None)),
            (r#"{"subquestions": ["How old is Ann?", "How ol"#, Finish::Length, true, steps(&["How old is Ann?"])),
            (r#"{"subquestions": ["How old is Ann?", "#, Finish::Length, true, steps(&["How old is Ann?"])),
            (r#"{"subquestions": ["How old is \"Ann\"?", "B"#, Finish::Length, true, steps(&["How old is \"Ann\"?"])),
            (r#"{"subquestions": [""#, Finish::Length, true, None),
            ("I cannot say.", Finish::Stop, false, None),
            ("<think>\n1. Hm?\n</think>\n{\"subquestions\": []}", Finish::Stop, true, Some(Decomposition::None)),
            (
                "<think>[]</think>{\"subquestions\": [\"How old is Ann?\", \"B",
                Finish::Length,
                true,
                steps(&["How old is Ann?"]),
            ),
            ("<think>{\"subquestions\": [\"How?\"", Finish::Length, false, None),
        ];
        for (reply, finish, keeps, decomposition) in cases {
            assert_eq!(keeps_format(reply, &finish), keeps, "{reply}");
            assert_eq!(read(reply, &finish, Style::Structured, 10).decomposition, decomposition, "{reply}");
        }
        let three = r#"{"subquestions": ["A?", "B?", "C?"]}"#;
        assert_eq!(read(three, &Finish::Stop, Style::Structured, 2).decomposition, steps(&["A?", "B?"]));
    }

    #[test]
    fn a_demonstration_is_shown_in_the_style_that_is_asked_for() {
        let lesson = Lesson::Reply("1. How old is Ann?\n2. How old is Bo?".to_owned());
        let shots = [Demonstration { premise: None, question: "Who is older?".into(), scorer: None, lesson }];
        let q = question(None, "How many?", ScorerKind::Numeric);
        let said =
            |style| messages(&Prompts::default(), Manner { style, most: None, shots: &shots }, &q).remove(2).content;
        assert_eq!(said(Style::Free), "1. How old is Ann?\n2. How old is Bo?");
        assert_eq!(said(Style::Structured), r#"{"subquestions":["How old is Ann?","How old is Bo?"]}"#);
    }

    proptest::proptest! {
        #[test]
        fn no_structured_reply_panics(reply in "[{}\\[\\]\":, a-z?é\\\\]{0,60}|(?s).{0,40}") {
            for finish in [Finish::Stop, Finish::Length] {
                let _ = read(&reply, &finish, Style::Structured, 3);
            }
        }
    }

    #[test]
    fn completions() {
        let steps = Decomposition::from_texts(["How old is\nAnn?", "How old is Bo?"]);
        assert_eq!(completion(&steps), "1. How old is Ann?\n2. How old is Bo?");
        assert_eq!(completion(&Decomposition::None), "No decomposition");
    }
}
