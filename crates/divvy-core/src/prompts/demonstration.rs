//! Demonstrations: questions with a good reply, shown before the question that is asked, each in the very words in which
//! that one is asked. They come from training questions (never dev or test), chosen by the seed, or from the recipe.

use serde::{Deserialize, Serialize};

use super::{
    PromptName, decompose, direct, self_ask,
    stepwise::{Known, filled_in},
    two_stage,
};
use crate::{
    chat::Message,
    decomposition::Decomposition,
    digest::derive_seed,
    question::{Question, QuestionId, ScorerKind},
    questions::Questions,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demonstration {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub premise: Option<String>,
    pub question: String,
    /// The form of its answer; that of the question asked where a recipe wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scorer: Option<ScorerKind>,
    pub lesson: Lesson,
}

/// What is good to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lesson {
    /// One reply. A decomposition as numbered lines, whatever style it is shown in.
    Reply(String),
    /// For self-ask: the subquestions, each with the answer that is heard before the next.
    Steps(Vec<Known>),
    /// For two-stage: the subquestions that are asked, and the reply that answers them all.
    Solution { subquestions: Vec<String>, reply: String },
}

impl Demonstration {
    /// What the data set has for this prompt; `None` where it lacks something. `decomposition` is the teacher's.
    #[must_use]
    pub fn of(prompt: PromptName, question: &Question, decomposition: Option<&Decomposition>) -> Option<Self> {
        let lesson = match prompt {
            PromptName::Direct => Lesson::Reply(direct::completion(&question.gold_text()?)),
            PromptName::Cot => Lesson::Reply(reasoning(question)?),
            PromptName::SelfAsk => Lesson::Steps(dialogue(question, decomposition?)?),
            PromptName::Decompose => Lesson::Reply(decompose::completion(decomposition?)),
            PromptName::TwoStage => solution(question, decomposition?)?,
            _ => return None,
        };
        let (premise, text) = (question.premise.clone(), question.text.clone());
        Some(Self { premise, question: text, scorer: Some(question.scorer), lesson })
    }

    /// A question is not its own demonstration.
    #[must_use]
    pub fn is_about(&self, question: &Question) -> bool {
        (&self.premise, &self.question) == (&question.premise, &question.text)
    }

    pub(super) fn as_question(&self, asked: &Question) -> Question {
        Question {
            premise: self.premise.clone(),
            text: self.question.clone(),
            scorer: self.scorer.unwrap_or(asked.scorer),
            ..asked.clone()
        }
    }

    /// After how many answers what is said.
    fn turns(&self) -> (&[Known], Vec<String>) {
        match &self.lesson {
            Lesson::Reply(reply) | Lesson::Solution { reply, .. } => (&[], vec![reply.clone()]),
            Lesson::Steps(steps) => {
                let asked = steps.iter().map(|known| known.subquestion.clone());
                (steps, asked.chain([self_ask::ENOUGH.to_owned()]).collect())
            }
        }
    }
}

/// The worked solution, then the answer.
fn reasoning(question: &Question) -> Option<String> {
    let answer = direct::completion(&question.gold_text()?);
    let lines: Vec<&str> = question.worked.iter().map(|step| step.text.as_str()).collect();
    (!lines.is_empty()).then(|| format!("{}\n{answer}", lines.join("\n")))
}

/// A line of the worked solution for each subquestion, then the answer.
fn solution(question: &Question, decomposition: &Decomposition) -> Option<Lesson> {
    let steps = decomposition.steps();
    if steps.is_empty() || steps.len() != question.worked.len() {
        return None;
    }
    let answer = direct::completion(&question.gold_text()?);
    let lines: Vec<&str> = question.worked.iter().map(|worked| worked.text.as_str()).collect();
    let subquestions = steps.iter().map(|step| step.text.clone()).collect();
    Some(Lesson::Solution { subquestions, reply: two_stage::completion(&lines, &answer) })
}

/// Each subquestion as it would be asked when the answers before it are known.
fn dialogue(question: &Question, decomposition: &Decomposition) -> Option<Vec<Known>> {
    let steps = decomposition.steps();
    if steps.is_empty() || steps.len() != question.worked.len() {
        return None;
    }
    let mut known: Vec<Known> = Vec::new();
    for (step, worked) in steps.iter().zip(&question.worked) {
        let subquestion = filled_in(&step.text, &known);
        known.push(Known { subquestion, answer: Some(worked.answer.clone()?) });
    }
    Some(known)
}

/// As [`choose`], from the data set's own decompositions.
#[must_use]
pub fn recorded(prompt: PromptName, train: &Questions, seed_and_most: (u64, usize)) -> Vec<Demonstration> {
    choose(prompt, train, |question| question.recorded.clone(), seed_and_most)
}

/// The first `most` training questions, in the order of the seed, that have what the prompt needs.
#[must_use]
pub fn choose(
    prompt: PromptName,
    train: &Questions,
    decompositions: impl Fn(&Question) -> Option<Decomposition>,
    (seed, most): (u64, usize),
) -> Vec<Demonstration> {
    let order = train.order_by(|id| rank(seed, id)).map(|position| train.at(position));
    let fitting = order.filter_map(|question| Demonstration::of(prompt, &question, decompositions(&question).as_ref()));
    fitting.take(most).collect()
}

/// The first `most` that are not about the question itself: a teacher that wrote it down, and a student that learnt it, would
/// only have to copy.
#[must_use]
pub fn beside(pool: &[Demonstration], most: usize, question: &Question) -> Vec<Demonstration> {
    pool.iter().filter(|shot| !shot.is_about(question)).take(most).cloned().collect()
}

fn rank(seed: u64, question: &QuestionId) -> u64 {
    derive_seed(seed, &format!("demonstration/{question}"))
}

/// The system message, each demonstration asked and answered, then the question. `render` writes the prompt of a question
/// about which so much is known.
pub(super) fn shown(
    shots: &[Demonstration],
    (question, known): (&Question, &[Known]),
    render: impl Fn(&Question, &[Known]) -> Vec<Message>,
) -> Vec<Message> {
    let mut asked = render(question, known);
    let last = if shots.is_empty() { None } else { asked.pop() };
    for shot in shots {
        let like = shot.as_question(question);
        let (known, replies) = shot.turns();
        for (at, reply) in replies.into_iter().enumerate() {
            asked.extend(render(&like, &known[..at]).pop());
            asked.push(Message::assistant(reply));
        }
    }
    asked.extend(last);
    asked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chat::Role,
        prompts::{Prompts, tests},
        question::{Gold, Worked},
    };

    fn train() -> Question {
        let mut question =
            tests::question(None, "Ann has 3 pens and buys twice as many. How many?", ScorerKind::Numeric);
        question.golds = vec![Gold::single("9")];
        let worked = |text: &str, answer: &str| Worked { text: text.to_owned(), answer: Some(answer.to_owned()) };
        question.worked = vec![worked("She buys 3*2 = 6 pens.", "6"), worked("She has 3+6 = 9 pens.", "9")];
        question.recorded = Some(Decomposition::from_texts(["How many does Ann buy?", "What is 3 plus #1?"]));
        question
    }

    fn shot(prompt: PromptName) -> Demonstration {
        let train = train();
        Demonstration::of(prompt, &train, train.recorded.as_ref()).unwrap()
    }

    fn said(messages: &[Message]) -> Vec<&str> {
        messages.iter().filter(|message| message.role == Role::Assistant).map(|m| m.content.as_str()).collect()
    }

    #[test]
    fn each_prompt_shows_what_is_good_to_say_to_it() {
        let (prompts, asked) = (Prompts::default(), tests::question(Some("P."), "Who?", ScorerKind::Drop));
        let direct = direct::messages(&prompts, &[shot(PromptName::Direct)], &asked);
        assert_eq!(said(&direct), ["The answer is: 9"]);
        assert_eq!(direct.last(), direct::messages(&prompts, &[], &asked).last());
        assert_eq!(direct[1], direct::messages(&prompts, &[], &train())[1], "it is asked as any question is");
        let cot = super::super::cot::messages(&prompts, &[shot(PromptName::Cot)], &asked);
        assert_eq!(said(&cot), ["She buys 3*2 = 6 pens.\nShe has 3+6 = 9 pens.\nThe answer is: 9"]);
    }

    #[test]
    fn two_stage_shows_subquestions_and_a_line_for_each() {
        let (asked, steps) = (tests::question(None, "Who?", ScorerKind::Exact), Decomposition::from_texts(["When?"]));
        let prompts = Prompts::default();
        let messages = two_stage::messages(&prompts, &[shot(PromptName::TwoStage)], &asked, &steps);
        let reply = "1. She buys 3*2 = 6 pens.\n2. She has 3+6 = 9 pens.\nThe answer is: 9";
        assert_eq!(said(&messages), [reply]);
        let plain = two_stage::messages(&prompts, &[], &train(), train().recorded.as_ref().unwrap());
        assert_eq!(messages[..2], plain[..], "it is asked as any question is");
        assert_eq!(messages.last(), two_stage::messages(&prompts, &[], &asked, &steps).last());
        assert_ne!(two_stage::prompt_id(&prompts, &[shot(PromptName::TwoStage)]), two_stage::prompt_id(&prompts, &[]));
        let sub_answers = two_stage::sub_answers(reply, plain_steps().steps());
        assert_eq!(sub_answers[1].as_deref(), Some("She has 3+6 = 9 pens."), "its own parser reads it");
    }

    fn plain_steps() -> Decomposition {
        train().recorded.unwrap()
    }

    #[test]
    fn no_question_is_its_own_demonstration() {
        let pool: Vec<Demonstration> = ["A?", "B?", "C?"]
            .map(|text| Demonstration { question: text.to_owned(), ..shot(PromptName::Decompose) })
            .into();
        let about = |text: &str| beside(&pool, 2, &tests::question(None, text, ScorerKind::Numeric));
        assert_eq!(about("Z?"), pool[..2]);
        assert_eq!(about("A?"), pool[1..]);
        assert_eq!(beside(&pool, 2, &tests::question(Some("P."), "A?", ScorerKind::Numeric)), pool[..2]);
    }

    #[test]
    fn self_ask_shows_every_turn_with_what_was_heard() {
        let asked = tests::question(None, "Who?", ScorerKind::Exact);
        let messages = self_ask::messages(&Prompts::default(), &[shot(PromptName::SelfAsk)], &asked, &[]);
        assert_eq!(said(&messages), ["How many does Ann buy?", "What is 3 plus 6?", "Enough"]);
        assert!(messages[5].content.ends_with("2. What is 3 plus 6?\nAnswer: 9"), "{}", messages[5].content);
        assert!(messages[7].content.ends_with("Question: Who?"));
    }

    #[test]
    fn a_question_that_lacks_something_is_no_demonstration() {
        let mut question = train();
        question.worked.pop();
        assert_eq!(Demonstration::of(PromptName::SelfAsk, &question, question.recorded.as_ref()), None);
        question.worked.clear();
        assert_eq!(Demonstration::of(PromptName::Cot, &question, None), None);
        assert_eq!(Demonstration::of(PromptName::Decompose, &question, None), None);
        question.golds.clear();
        assert_eq!(Demonstration::of(PromptName::Direct, &question, None), None);
    }

    #[test]
    fn they_are_chosen_by_the_seed_and_not_by_the_order() {
        let questions = crate::synth::generate(crate::question::Split::Train, 30, 1);
        let backwards: Questions = questions.iter().rev().cloned().collect();
        let questions: Questions = questions.into_iter().collect();
        let chosen = |questions: &Questions, seed, most| recorded(PromptName::Cot, questions, (seed, most));
        assert_eq!(chosen(&questions, 1, 3), chosen(&backwards, 1, 3));
        assert_ne!(chosen(&questions, 1, 3), chosen(&questions, 2, 3));
        assert_eq!(chosen(&questions, 1, 3)[..2], chosen(&questions, 1, 2)[..], "more shots have the fewer in them");
    }
}
