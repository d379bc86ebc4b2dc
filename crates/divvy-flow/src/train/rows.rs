//! What a student is taught: for each target, the rows that the store and the data set have for it. A row's prompt is
//! rendered by the function that asks the finished student.

use std::collections::HashMap;

use divvy_core::{
    chat::{Finish, Message},
    decomposition::Decomposition,
    digest::Digest,
    extract,
    plan::StudentPlan,
    prompts::{
        PromptId, Prompts,
        decompose::{self, Style},
        direct, two_stage,
    },
    question::Question,
    questions::Questions,
    recipe::{RowWeights, Target},
    records::{Stage, Verdict},
};

use super::{Row, mix};
use crate::{collect, context::Context, error::FlowError, items, items::ItemKey, screen};

/// Rows to learn from, and rows to watch the loss on. Targets that repeat a solver's replies have none of the latter: dev
/// questions are not screened.
pub(crate) struct Rows {
    pub(crate) train: Vec<Taught>,
    pub(crate) dev: Vec<Taught>,
    /// Replies of the screening's solver that teach nothing: cut off, or without a final answer that is marked as one.
    pub(crate) unusable: u64,
}

/// A row, and the item that it was made of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Taught {
    pub(crate) from: ItemKey,
    pub(crate) row: Row,
}

/// Digest of the prompts that a target is trained on and their parsers: another prompt is another student.
pub(crate) fn prompt_id(prompts: &Prompts, plan: &StudentPlan) -> String {
    let PromptId(decomposes) = decompose::prompt_id(prompts, plan.style);
    let PromptId(solves) = two_stage::prompt_id(prompts);
    let PromptId(answers) = direct::prompt_id(prompts, &[]);
    let id = match plan.target {
        Target::SdT | Target::SdR => decomposes,
        Target::SeT | Target::SeA | Target::SeTDirect | Target::SeADirect => solves,
        Target::Direct => answers,
        Target::Joint => Digest::of("prompts/1", &[decomposes, solves]),
    };
    id.hex().to_owned()
}

/// All that it learns: of its training sets, as often as it says, and no more rows than it wants.
pub(crate) async fn rows(context: &Context, plan: &StudentPlan) -> Result<Rows, FlowError> {
    let Rows { train, mut dev, unusable } = whole(context, plan).await?;
    dev.retain(|taught| plan.learns_from(taught.from.question.set()));
    Ok(Rows { train: mix::mixed(train, plan, context.plan.seed), dev, unusable })
}

async fn whole(context: &Context, plan: &StudentPlan) -> Result<Rows, FlowError> {
    let prompts = &context.plan.prompts;
    if plan.target == Target::Direct {
        let from = |question: &Question| ItemKey { question: question.id.clone(), sample: 0, arm: String::new() };
        let taught = |question: &Question| Some(Taught { from: from(question), row: answer(prompts, question)? });
        let of = |questions: &Questions| questions.iter().filter_map(|question| taught(&question)).collect();
        return Ok(Rows { train: of(&context.questions.train), dev: of(&context.questions.dev), unusable: 0 });
    }
    let collected = collect::collected(context).await?;
    let (train, dev) = (&context.questions.train, &context.questions.dev);
    let of = |questions: &Questions, make: &Make<'_>| -> Vec<Taught> {
        let made =
            collected.iter().filter_map(|(key, steps)| Some((key, make(key, &*questions.get(&key.question)?, steps))));
        made.flat_map(|(key, rows)| rows.into_iter().map(|row| Taught { from: key.clone(), row })).collect()
    };
    let decomposing: &Make<'_> = &|_, question, steps| vec![decomposition(prompts, question, steps, plan.style)];
    let solving: &Make<'_> = &|_, question, steps| gold(prompts, question, steps).into_iter().collect();
    Ok(match plan.target {
        Target::SdT => Rows { train: of(train, decomposing), dev: of(dev, decomposing), unusable: 0 },
        Target::SdR => {
            let verdicts = screen::verdicts(context).await?;
            let kept: &Make<'_> = &|key, question, steps| {
                let kept = verdicts.get(key).filter(|verdict| verdict.keep);
                let weight = kept.and_then(|verdict| weight(plan.tuning.weights, verdict));
                let rows = weight.map(|weight| Row { weight, ..decomposition(prompts, question, steps, plan.style) });
                rows.into_iter().collect()
            };
            Rows { train: of(train, kept), dev: of(dev, decomposing), unusable: 0 }
        }
        Target::SeADirect => Rows { train: of(train, solving), dev: of(dev, solving), unusable: 0 },
        Target::Joint => {
            let both: &Make<'_> =
                &|key, question, steps| [decomposing(key, question, steps), solving(key, question, steps)].concat();
            Rows { train: of(train, both), dev: of(dev, both), unusable: 0 }
        }
        Target::SeT | Target::SeA | Target::SeTDirect => {
            let replies = replies(context).await?;
            let repeated: &Make<'_> = &|key, question, steps| {
                let reply = replies.get(key).and_then(|reply| said(prompts, plan.target, (question, steps), reply));
                reply.into_iter().collect()
            };
            let rows = of(train, repeated);
            let learnt = replies.keys().filter(|key| plan.learns_from(key.question.set())).count();
            let taught = rows.iter().filter(|taught| plan.learns_from(taught.from.question.set())).count();
            let unusable = (learnt - taught) as u64;
            Rows { train: rows, dev: Vec::new(), unusable }
        }
        Target::Direct => unreachable!("answered above"),
    })
}

/// Rows of one collected decomposition.
type Make<'a> = dyn Fn(&ItemKey, &Question, &Decomposition) -> Vec<Row> + Sync + 'a;

fn row(question: &Question, prompt: Vec<Message>, completion: String) -> Row {
    Row { id: question.id.0.clone(), prompt, completion, weight: 1.0, decomposes: false }
}

fn decomposition(prompts: &Prompts, question: &Question, steps: &Decomposition, style: Style) -> Row {
    let row = row(question, decompose::messages(prompts, style, question), decompose::completion(steps));
    Row { decomposes: true, ..row }
}

/// How much a kept decomposition counts; one that was never right, which some rules keep, cannot count by its pass rate.
fn weight(weights: RowWeights, verdict: &Verdict) -> Option<f64> {
    match weights {
        RowWeights::Equal => Some(1.0),
        RowWeights::PassRate => (verdict.pass_rate > 0.0).then_some(verdict.pass_rate),
    }
}

/// `direct`: the gold answer to the question alone.
fn answer(prompts: &Prompts, question: &Question) -> Option<Row> {
    let gold = question.golds.first()?.to_string();
    Some(row(question, direct::messages(prompts, &[], question), direct::completion(&gold)))
}

/// SE-A-direct: the gold answer to question and subquestions, without sub-answers.
fn gold(prompts: &Prompts, question: &Question, steps: &Decomposition) -> Option<Row> {
    let gold = question.golds.first()?.to_string();
    Some(row(question, two_stage::messages(prompts, question, steps), direct::completion(&gold)))
}

/// SE-T, SE-A, SE-T-direct: what the screening's solver said, whole, with gold at its end, or its end alone.
fn said(prompts: &Prompts, target: Target, (question, steps): (&Question, &Decomposition), reply: &str) -> Option<Row> {
    let completion = match target {
        Target::SeA => two_stage::with_answer(reply, &question.golds.first()?.to_string())?,
        Target::SeTDirect => {
            let answer = extract::final_answer(reply).filter(|answer| answer.cue.is_explicit())?;
            direct::completion(&answer.text)
        }
        _ => reply.trim().to_owned(),
    };
    (!completion.is_empty()).then(|| row(question, two_stage::messages(prompts, question, steps), completion))
}

/// The first reply of the screening's solver to each candidate; of one that was cut off nothing is left.
async fn replies(context: &Context) -> Result<HashMap<ItemKey, String>, FlowError> {
    let mut replies = HashMap::new();
    for (key, item) in items::settled(context, Stage::Screen).await? {
        let Some(call) = item.calls.first() else { continue };
        if let Some(reply) = context.store.call(call).await?.map(|call| call.reply) {
            let whole = reply.finish != Finish::Length;
            replies.insert(key, if whole { reply.text } else { String::new() });
        }
    }
    Ok(replies)
}

#[cfg(test)]
mod tests {
    use divvy_core::{question::Split, synth};

    use super::*;

    const REPLY: &str = "1. 40\n2. 42\nThe answer is: 41";

    fn question() -> Question {
        synth::generate(Split::Train, 1, 3).remove(0)
    }

    fn steps() -> Decomposition {
        Decomposition::from_texts(["How many?", "And with #1?"])
    }

    #[test]
    fn a_solver_is_taught_on_the_prompt_that_it_will_be_asked_with() {
        let (question, steps, prompts) = (question(), steps(), &Prompts::default());
        let asked = two_stage::messages(prompts, &question, &steps);
        for target in [Target::SeT, Target::SeA, Target::SeTDirect] {
            assert_eq!(said(prompts, target, (&question, &steps), REPLY).unwrap().prompt, asked, "{}", target.name());
        }
        assert_eq!(gold(prompts, &question, &steps).unwrap().prompt, asked);
        assert_eq!(answer(prompts, &question).unwrap().prompt, direct::messages(prompts, &[], &question));
    }

    #[test]
    fn each_target_has_its_own_completion() {
        let (question, steps, prompts) = (question(), steps(), &Prompts::default());
        let gold_line = format!("The answer is: {}", question.golds[0]);
        let completion = |target| said(prompts, target, (&question, &steps), REPLY).unwrap().completion;
        assert_eq!(completion(Target::SeT), REPLY);
        assert_eq!(completion(Target::SeA), format!("1. 40\n2. 42\n{gold_line}"));
        assert_eq!(completion(Target::SeTDirect), "The answer is: 41");
        assert_eq!(gold(prompts, &question, &steps).unwrap().completion, gold_line);
        assert_eq!(answer(prompts, &question).unwrap().completion, gold_line);
    }

    #[test]
    fn what_has_no_answer_teaches_none() {
        let (mut question, steps, prompts) = (question(), steps(), &Prompts::default());
        assert_eq!(said(prompts, Target::SeT, (&question, &steps), "  \n"), None);
        assert_eq!(said(prompts, Target::SeTDirect, (&question, &steps), ""), None);
        question.golds.clear();
        assert_eq!(said(prompts, Target::SeA, (&question, &steps), REPLY), None);
        assert_eq!((gold(prompts, &question, &steps), answer(prompts, &question)), (None, None));
    }

    #[test]
    fn a_row_counts_by_its_pass_rate_where_that_is_asked_for() {
        let verdict = |pass_rate| Verdict { keep: true, reason: "correct".into(), pass_rate, answer: None };
        assert_eq!(weight(RowWeights::PassRate, &verdict(0.25)), Some(0.25));
        assert_eq!(weight(RowWeights::PassRate, &verdict(0.0)), None);
        assert_eq!(weight(RowWeights::Equal, &verdict(0.0)), Some(1.0));
        let row = decomposition(&Prompts::default(), &question(), &steps(), Style::default());
        let json = |weight| serde_json::to_value(Row { weight, ..row.clone() }).unwrap();
        assert!(json(1.0).get("weight").is_none(), "what counts once is the row that it always was");
        assert_eq!(json(0.25)["weight"], 0.25);
    }
}
