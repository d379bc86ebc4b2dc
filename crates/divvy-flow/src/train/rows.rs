//! What a student is taught: for each target, the rows that the store and the data set have for it. A row's prompt is
//! rendered by the functions that ask the finished student ([`super::asked`]).

use std::collections::HashMap;

use divvy_core::{
    chat::{Finish, Message, Reply},
    decomposition::Decomposition,
    extract,
    plan::StudentPlan,
    prompts::{decompose, direct, two_stage},
    question::Question,
    questions::Questions,
    recipe::{RowWeights, Target},
    records::{Stage, Verdict},
};

use super::{Row, asked::Asked, mix};
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

/// All that it learns: of its training sets, as often as it says, and no more rows than it wants.
pub(crate) async fn rows(context: &Context, plan: &StudentPlan) -> Result<Rows, FlowError> {
    let Rows { train, mut dev, unusable } = whole(context, plan).await?;
    dev.retain(|taught| plan.learns_from(taught.from.question.set()));
    Ok(Rows { train: mix::mixed(train, plan, context.plan.seed), dev, unusable })
}

async fn whole(context: &Context, plan: &StudentPlan) -> Result<Rows, FlowError> {
    let asked = &Asked { prompts: &context.plan.prompts, shown: &context.shown, plan };
    let (train, dev) = (&context.questions.train, &context.questions.dev);
    if plan.target == Target::Direct {
        let from = |question: &Question| ItemKey { question: question.id.clone(), sample: 0, arm: String::new() };
        let taught = |question: &Question| Some(Taught { from: from(question), row: answer(asked, question)? });
        let of = |questions: &Questions| questions.iter().filter_map(|question| taught(&question)).collect();
        return Ok(Rows { train: of(train), dev: of(dev), unusable: 0 });
    }
    let collected = collect::collected(context).await?;
    let verdicts = if plan.target == Target::SdR { screen::verdicts(context).await? } else { HashMap::new() };
    let replies = if plan.target.repeats_replies() { replies(context).await? } else { HashMap::new() };
    let of = |questions: &Questions, make: &Make<'_>| -> Vec<Taught> {
        let made =
            collected.iter().filter_map(|(key, steps)| Some((key, make(key, &*questions.get(&key.question)?, steps))));
        made.flat_map(|(key, rows)| rows.into_iter().map(|row| Taught { from: key.clone(), row })).collect()
    };
    let train = of(train, &|key, question, steps| {
        let reply = replies.get(key).map(String::as_str);
        of_training(asked, question, &Known { steps, verdict: verdicts.get(key), reply })
    });
    let dev = of(dev, &|_, question, steps| of_dev(asked, question, steps));
    let learnt = replies.keys().filter(|key| plan.learns_from(key.question.set())).count();
    let taught = || train.iter().filter(|taught| plan.learns_from(taught.from.question.set())).count();
    let unusable = if plan.target.repeats_replies() { (learnt - taught()) as u64 } else { 0 };
    Ok(Rows { train, dev, unusable })
}

/// Rows of one collected decomposition.
type Make<'a> = dyn Fn(&ItemKey, &Question, &Decomposition) -> Vec<Row> + Sync + 'a;

/// What the store has of a training question's decomposition, as far as a target asks for it.
pub(crate) struct Known<'a> {
    pub(crate) steps: &'a Decomposition,
    pub(crate) verdict: Option<&'a Verdict>,
    /// The screening's solver's first.
    pub(crate) reply: Option<&'a str>,
}

/// The rows of one collected decomposition of a training question.
pub(crate) fn of_training(asked: &Asked<'_>, question: &Question, known: &Known<'_>) -> Vec<Row> {
    let Known { steps, verdict, reply } = *known;
    match asked.plan.target {
        Target::SdR => {
            let kept = verdict.filter(|verdict| verdict.keep);
            let weight = kept.and_then(|verdict| weight(asked.plan.tuning.weights, verdict));
            weight.map(|weight| Row { weight, ..decomposition(asked, question, steps) }).into_iter().collect()
        }
        target if target.repeats_replies() => {
            reply.and_then(|reply| said(asked, (question, steps), reply)).into_iter().collect()
        }
        _ => of_dev(asked, question, steps),
    }
}

/// The same of a dev question, which is not screened.
fn of_dev(asked: &Asked<'_>, question: &Question, steps: &Decomposition) -> Vec<Row> {
    let decomposing = || vec![decomposition(asked, question, steps)];
    let solving = || gold(asked, question, steps).into_iter().collect();
    match asked.plan.target {
        Target::SdT | Target::SdR => decomposing(),
        Target::SeADirect => solving(),
        Target::Joint => [decomposing(), solving()].concat(),
        Target::SeT | Target::SeA | Target::SeTDirect | Target::Direct => Vec::new(),
    }
}

fn row(question: &Question, prompt: Vec<Message>, completion: String) -> Row {
    Row { id: question.id.0.clone(), prompt, completion, weight: 1.0, decomposes: false }
}

fn decomposition(asked: &Asked<'_>, question: &Question, steps: &Decomposition) -> Row {
    let row = row(question, asked.decomposing(question), decompose::completion(steps));
    Row { decomposes: true, ..row }
}

/// How much a kept decomposition counts; one that was never right, or that no solver was asked about, cannot count by its pass
/// rate.
fn weight(weights: RowWeights, verdict: &Verdict) -> Option<f64> {
    match weights {
        RowWeights::Equal => Some(1.0),
        RowWeights::PassRate => verdict.pass_rate.filter(|rate| *rate > 0.0),
    }
}

/// `direct`: the gold answer to the question alone.
pub(crate) fn answer(asked: &Asked<'_>, question: &Question) -> Option<Row> {
    let gold = question.gold_text()?;
    Some(row(question, asked.answering(question), direct::completion(&gold)))
}

/// SE-A-direct: the gold answer to question and subquestions, without sub-answers.
fn gold(asked: &Asked<'_>, question: &Question, steps: &Decomposition) -> Option<Row> {
    let gold = question.gold_text()?;
    Some(row(question, asked.solving(question, steps), direct::completion(&gold)))
}

/// SE-T, SE-A, SE-T-direct: what the screening's solver said, whole, with gold at its end, or its end alone.
fn said(asked: &Asked<'_>, (question, steps): (&Question, &Decomposition), reply: &str) -> Option<Row> {
    let completion = match asked.plan.target {
        Target::SeA => two_stage::with_answer(reply, &question.gold_text()?)?,
        Target::SeTDirect => {
            let answer = extract::final_answer(reply).filter(|answer| answer.cue.is_explicit())?;
            direct::completion(&answer.text)
        }
        _ => reply.trim().to_owned(),
    };
    (!completion.is_empty()).then(|| row(question, asked.solving(question, steps), completion))
}

/// The first reply of the screening's solver to each candidate; of one that was cut off or withheld nothing is left.
async fn replies(context: &Context) -> Result<HashMap<ItemKey, String>, FlowError> {
    let mut replies = HashMap::new();
    for (key, item) in items::settled(context, Stage::Screen).await? {
        let Some(call) = item.calls.first() else { continue };
        if let Some(reply) = context.store.call(call).await?.map(|call| call.reply) {
            replies.insert(key, whole_reply(reply));
        }
    }
    Ok(replies)
}

/// Nothing, where it was cut off or withheld.
pub(crate) fn whole_reply(reply: Reply) -> String {
    if reply.finish == Finish::Length || reply.finish.is_refusal() { String::new() } else { reply.text }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use divvy_core::{
        prompts::{PromptName, Prompts, demonstration},
        question::{Gold, ScorerKind, Split},
        synth,
    };
    use serde_json::json;

    use super::*;
    use crate::demonstrations::Shown;

    const REPLY: &str = "1. 40\n2. 42\nThe answer is: 41";

    fn question() -> Question {
        synth::generate(Split::Train, 1, 3).remove(0)
    }

    fn steps() -> Decomposition {
        Decomposition::from_texts(["How many?", "And with #1?"])
    }

    fn student(target: Target, shots: usize) -> StudentPlan {
        let plan = json!({
            "base": "small", "target": target, "style": "free", "method": "lora", "rank": 4, "alpha": 8.0, "epochs": 1,
            "learning_rate": 1e-3, "batch_rows": 4, "warmup_ratio": 0.0, "weight_decay": 0.0, "max_grad_norm": 1.0,
            "max_row_tokens": 100, "checkpoint_every": 1, "eval_every": 1, "shots": shots,
        });
        serde_json::from_value(plan).unwrap()
    }

    /// What a student of this target is asked.
    fn with<T>(target: Target, shots: usize, shown: &Shown, make: impl Fn(&Asked<'_>) -> T) -> T {
        make(&Asked { prompts: &Prompts::default(), shown, plan: &student(target, shots) })
    }

    fn plainly<T>(target: Target, make: impl Fn(&Asked<'_>) -> T) -> T {
        with(target, 0, &Shown::default(), make)
    }

    #[test]
    fn a_solver_is_taught_on_the_prompt_that_it_will_be_asked_with() {
        let (question, steps, prompts) = (question(), steps(), &Prompts::default());
        let prompt = two_stage::messages(prompts, &[], &question, &steps);
        for target in [Target::SeT, Target::SeA, Target::SeTDirect] {
            let row = plainly(target, |asked| said(asked, (&question, &steps), REPLY).unwrap());
            assert_eq!(row.prompt, prompt, "{}", target.name());
        }
        assert_eq!(plainly(Target::SeADirect, |asked| gold(asked, &question, &steps).unwrap()).prompt, prompt);
        let direct = direct::messages(prompts, &[], &question);
        assert_eq!(plainly(Target::Direct, |asked| answer(asked, &question).unwrap()).prompt, direct);
    }

    #[test]
    fn a_student_with_shots_is_taught_on_what_it_will_see_and_never_on_its_own_row() {
        let train = synth::generate(Split::Train, 12, 3);
        let questions: Questions = train.iter().cloned().collect();
        let pool = demonstration::recorded(PromptName::Decompose, &questions, (7, 3));
        let shown = Shown::staging(BTreeMap::from([(PromptName::Decompose, pool.clone().into())]));
        let other = synth::generate(Split::Test, 1, 3).remove(0);
        let row = |question: &Question| {
            with(Target::SdT, 2, &shown, |asked| decomposition(asked, question, question.recorded.as_ref().unwrap()))
        };
        let manner = decompose::Manner { shots: &pool[..2], ..decompose::Manner::default() };
        assert_eq!(row(&other).prompt, decompose::messages(&Prompts::default(), manner, &other));
        for question in &train {
            let row = row(question);
            assert_eq!(row.prompt.len(), 2 + 2 * 2, "as many for every row");
            let own = row.prompt.iter().filter(|message| message.content.contains(&question.text)).count();
            assert_eq!(own, 1, "no row has its own completion in its prompt");
        }
        let id = |shots| with(Target::SdT, shots, &shown, |asked| asked.prompt_id());
        assert!(id(0) != id(1) && id(1) != id(2));
        assert_eq!(id(0), plainly(Target::SdT, |asked| asked.prompt_id()), "students without shots stay what they are");
    }

    #[test]
    fn each_target_has_its_own_completion() {
        let (question, steps) = (question(), steps());
        let gold_line = format!("The answer is: {}", question.golds[0]);
        let completion = |target| plainly(target, |asked| said(asked, (&question, &steps), REPLY).unwrap().completion);
        assert_eq!(completion(Target::SeT), REPLY);
        assert_eq!(completion(Target::SeA), format!("1. 40\n2. 42\n{gold_line}"));
        assert_eq!(completion(Target::SeTDirect), "The answer is: 41");
        assert_eq!(plainly(Target::SeADirect, |asked| gold(asked, &question, &steps).unwrap().completion), gold_line);
        assert_eq!(plainly(Target::Direct, |asked| answer(asked, &question).unwrap().completion), gold_line);
    }

    #[test]
    fn what_has_no_answer_teaches_none() {
        let (mut question, steps) = (question(), steps());
        let of =
            |question: &Question, target, reply: &str| plainly(target, |asked| said(asked, (question, &steps), reply));
        assert_eq!(of(&question, Target::SeT, "  \n"), None);
        assert_eq!(of(&question, Target::SeTDirect, ""), None);
        let tests =
            Question { scorer: ScorerKind::Code, golds: vec![Gold::single("assert f(2) == 4")], ..question.clone() };
        question.golds.clear();
        for question in [question, tests] {
            assert_eq!(of(&question, Target::SeA, REPLY), None);
            let rows = plainly(Target::Direct, |asked| (gold(asked, &question, &steps), answer(asked, &question)));
            assert_eq!(rows, (None, None), "{:?}", question.scorer);
        }
    }

    #[test]
    fn a_row_counts_by_its_pass_rate_where_that_is_asked_for() {
        let verdict = |rate| Verdict { keep: true, reason: "correct".into(), pass_rate: Some(rate), answer: None };
        assert_eq!(weight(RowWeights::PassRate, &verdict(0.25)), Some(0.25));
        assert_eq!(weight(RowWeights::PassRate, &verdict(0.0)), None);
        assert_eq!(weight(RowWeights::Equal, &verdict(0.0)), Some(1.0));
        let row = plainly(Target::SdR, |asked| decomposition(asked, &question(), &steps()));
        let json = |weight| serde_json::to_value(Row { weight, ..row.clone() }).unwrap();
        assert!(json(1.0).get("weight").is_none(), "what counts once is the row that it always was");
        assert_eq!(json(0.25)["weight"], 0.25);
    }
}
