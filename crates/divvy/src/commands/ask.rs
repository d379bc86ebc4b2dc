//! `divvy ask`: one question through one arm, with every step shown.

use divvy_core::{
    arm::{Arm, Strategy},
    plan::EvaluatePlan,
    prompts::two_stage,
    question::{Question, QuestionId, ScorerKind, Split},
    recipe::nearest,
};
use divvy_flow::{
    evaluate,
    strategy::{self, Answer},
};
use divvy_llm::Call;
use serde_json::{Value, json};

use crate::{
    cli::Place,
    output::{Usage, print},
    session::{Access, Session, stop_on_ctrl_c},
};

pub(crate) struct Asked {
    pub(crate) question: String,
    pub(crate) premise: Option<String>,
    pub(crate) arm: Option<String>,
    pub(crate) json: bool,
}

pub(crate) async fn run(place: &Place, asked: Asked) -> anyhow::Result<()> {
    if asked.question.trim().is_empty() {
        return Err(Usage("the question is empty".to_owned()).into());
    }
    let session = Session::open(place, Access::Run).await?;
    let context = &session.context;
    stop_on_ctrl_c(context.cancel.clone(), context.progress.clone());
    session.find_students().await?;
    let plan = context
        .plan
        .evaluate
        .as_ref()
        .ok_or_else(|| Usage("the recipe has no [evaluate], so it has no arms".to_owned()))?;
    let arm = choose(plan, asked.arm.as_deref())?;
    if arm.decomposer.as_deref().is_some_and(|name| context.is_recorded(name)) {
        return Err(Usage(format!(
            "--arm: the recorded teacher of `{arm}` knows its own questions only; choose another arm"
        ))
        .into());
    }
    let question =
        question(&asked, session.context.questions.train.first().map_or(ScorerKind::Exact, |first| first.scorer));
    let opened = evaluate::open_arm(context, arm).await?;
    let answer = strategy::answer(context, plan, &opened, &question).await?;
    let text = if asked.json { serde_json::to_string_pretty(&as_json(arm, &answer))? } else { as_text(arm, &answer) };
    print(&text)?;
    context.store.close().await?;
    Ok(())
}

fn choose<'a>(plan: &'a EvaluatePlan, wanted: Option<&str>) -> anyhow::Result<&'a Arm> {
    let Some(wanted) = wanted else {
        let student = |arm: &&Arm| {
            arm.strategy == Strategy::TwoStage
                && arm.decomposer.as_deref().is_some_and(|name| name.starts_with("student:"))
        };
        return plan
            .arms
            .iter()
            .find(student)
            .or(plan.arms.last())
            .ok_or_else(|| Usage("the recipe has no arms".to_owned()).into());
    };
    plan.arms.iter().find(|arm| arm.slug() == wanted).ok_or_else(|| {
        let slugs: Vec<String> = plan.arms.iter().map(Arm::slug).collect();
        let near = nearest(wanted, slugs.iter().map(String::as_str))
            .map_or_else(|| ".".to_owned(), |near| format!("; did you mean `{near}`?"));
        Usage(format!("--arm: there is no `{wanted}`{near} The recipe has {}", slugs.join(", "))).into()
    })
}

fn question(asked: &Asked, scorer: ScorerKind) -> Question {
    Question {
        id: QuestionId("ask/test/0".to_owned()),
        dataset: "ask".to_owned(),
        split: Split::Test,
        premise: asked.premise.clone(),
        text: asked.question.clone(),
        golds: Vec::new(),
        scorer,
        steps: None,
        recorded: None,
        cluster: None,
    }
}

fn as_text(arm: &Arm, answer: &Answer) -> String {
    let mut text = format!("arm       {arm}\n");
    let sub_answers = sub_answers(answer);
    match &answer.decomposition {
        Some(decomposition) if decomposition.steps().is_empty() => text.push_str("steps     no decomposition needed\n"),
        Some(decomposition) => {
            for (at, (step, sub_answer)) in decomposition.steps().iter().zip(&sub_answers).enumerate() {
                text.push_str(&format!("step {:<4} {}\n", at + 1, step.text));
                text.extend(sub_answer.as_ref().map(|sub_answer| format!("          {sub_answer}\n")));
            }
        }
        None if answer.malformed => {
            text.push_str("steps     the decomposer wrote nothing usable, so the solver was not asked\n")
        }
        None => {}
    }
    // The reply says nothing more where every sub-answer was found in it.
    if sub_answers.is_empty() || sub_answers.iter().any(Option::is_none) {
        text.push_str(&format!("\n{}\n", answer.reply.trim()));
    }
    text.push_str(&format!("\nanswer    {}\n", final_answer(answer).unwrap_or_else(|| "none".to_owned())));
    for (stage, call) in [("decompose", &answer.decompose_call), ("solve", &answer.solve_call)] {
        text.extend(call.as_ref().map(|call| spent(stage, call)));
    }
    text
}

/// One a subquestion.
fn sub_answers(answer: &Answer) -> Vec<Option<String>> {
    answer
        .decomposition
        .as_ref()
        .map_or_else(Vec::new, |decomposition| two_stage::sub_answers(&answer.reply, decomposition.steps()))
}

fn final_answer(answer: &Answer) -> Option<String> {
    divvy_core::extract::final_answer(&answer.reply).map(|extracted| extracted.text)
}

fn spent(stage: &str, call: &Call) -> String {
    let count = |tokens: Option<u64>| tokens.map_or_else(|| "?".to_owned(), |tokens| tokens.to_string());
    let usage = call.reply.usage;
    let price = call.price_nanos.map_or_else(|| "price unknown".to_owned(), divvy_core::cost::show_dollars);
    let cached = if call.from_cache { ", from the store" } else { "" };
    format!(
        "{stage:<9} {} tokens in, {} out, {price}, {:.1} s{cached}\n",
        count(usage.tokens_in),
        count(usage.tokens_out),
        call.latency_ms as f64 / 1000.0
    )
}

fn as_json(arm: &Arm, answer: &Answer) -> Value {
    let call = |call: &Option<Call>| {
        call.as_ref().map(|call| json!({ "usage": call.reply.usage, "cost_nanos": call.price_nanos, "latency_ms": call.latency_ms, "from_cache": call.from_cache }))
    };
    json!({
        "arm": arm.slug(),
        "subquestions": answer.decomposition.as_ref().map(|steps| steps.steps().iter().map(|step| step.text.clone()).collect::<Vec<_>>()),
        "sub_answers": sub_answers(answer),
        "malformed": answer.malformed,
        "reply": answer.reply,
        "answer": final_answer(answer),
        "decompose": call(&answer.decompose_call),
        "solve": call(&answer.solve_call),
    })
}
