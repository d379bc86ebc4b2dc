//! `divvy ask`: one question through one arm, with every step shown.

use divvy_core::{
    arm::{Arm, Strategy},
    chat::{Finish, Usage},
    plan::EvaluatePlan,
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
    output::{self, print},
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
        return Err(output::Usage("the question is empty".to_owned()).into());
    }
    let session = Session::open(place, Access::Run).await?;
    let answer = answer(&session, &asked).await;
    // Also without one: what was paid for is put on record.
    session.close().await?;
    print(&answer?)?;
    Ok(())
}

async fn answer(session: &Session, asked: &Asked) -> anyhow::Result<String> {
    let context = &session.context;
    session.registry.ask_at_once();
    stop_on_ctrl_c(session);
    session.find_students().await?;
    let plan = context
        .plan
        .evaluate
        .as_ref()
        .ok_or_else(|| output::Usage("the recipe has no [evaluate], so it has no arms".to_owned()))?;
    let arm = choose(plan, asked.arm.as_deref())?;
    if arm.decomposer.as_deref().is_some_and(|name| context.is_recorded(name)) {
        return Err(output::Usage(format!(
            "--arm: the recorded teacher of `{arm}` knows its own questions only; choose another arm"
        ))
        .into());
    }
    let scorer = evaluate::questions(context, plan).first().map_or(ScorerKind::Exact, |first| first.scorer);
    let question = question(asked, scorer);
    let opened = evaluate::open_arm(context, arm).await?;
    let answer = strategy::answer(context, plan, &opened, (&question, 0)).await?;
    Ok(if asked.json { serde_json::to_string_pretty(&as_json(arm, &answer))? } else { as_text(arm, &answer) })
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
            .ok_or_else(|| output::Usage("the recipe has no arms".to_owned()).into());
    };
    plan.arms.iter().find(|arm| arm.slug() == wanted).ok_or_else(|| {
        let slugs: Vec<String> = plan.arms.iter().map(Arm::slug).collect();
        let near = nearest(wanted, slugs.iter().map(String::as_str))
            .map_or_else(|| ".".to_owned(), |near| format!("; did you mean `{near}`?"));
        output::Usage(format!("--arm: there is no `{wanted}`{near} The recipe has {}", slugs.join(", "))).into()
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
        worked: Vec::new(),
    }
}

fn as_text(arm: &Arm, answer: &Answer) -> String {
    let mut text = format!("arm       {arm}\n");
    let sub_answers = &answer.sub_answers;
    match &answer.decomposition {
        Some(decomposition) if decomposition.steps().is_empty() => text.push_str("steps     no decomposition needed\n"),
        Some(decomposition) => {
            for (at, (step, sub_answer)) in decomposition.steps().iter().zip(sub_answers).enumerate() {
                text.push_str(&format!("step {:<4} {}\n", at + 1, step.text));
                text.extend(sub_answer.as_ref().map(|sub_answer| format!("          {sub_answer}\n")));
            }
        }
        None if answer.malformed => {
            text.push_str("steps     the decomposer wrote nothing usable, so the solver was not asked\n")
        }
        None => {}
    }
    if !told_by_steps(arm, answer) {
        text.push_str(&format!("\n{}\n", answer.reply.trim()));
    }
    text.push_str(&format!("\nanswer    {}\n", final_answer(answer).unwrap_or_else(|| "none".to_owned())));
    for (stage, calls) in [("decompose", &answer.decompose_calls), ("solve", &answer.solve_calls)] {
        text.extend(Spending::of(calls).map(|spending| spending.line(stage)));
    }
    text
}

/// In one solver call whose every part was shown, the reply has nothing more to say.
fn told_by_steps(arm: &Arm, answer: &Answer) -> bool {
    arm.strategy == Strategy::TwoStage
        && answer.finish == Finish::Stop
        && final_answer(answer).is_some()
        && !answer.sub_answers.is_empty()
        && answer.sub_answers.iter().all(Option::is_some)
}

fn final_answer(answer: &Answer) -> Option<String> {
    divvy_core::extract::final_answer(&answer.reply).map(|extracted| extracted.text)
}

/// All calls of one stage together.
struct Spending {
    calls: usize,
    usage: Usage,
    cost_nanos: Option<i64>,
    latency_ms: i64,
    from_cache: bool,
}

impl Spending {
    /// `None` where the stage made no call. A figure that one call does not have, the sum does not have.
    fn of(calls: &[Call]) -> Option<Self> {
        let sum = |of: fn(&Usage) -> Option<u64>| calls.iter().map(|call| of(&call.reply.usage)).sum();
        (!calls.is_empty()).then(|| Self {
            calls: calls.len(),
            usage: Usage {
                tokens_in: sum(|usage| usage.tokens_in),
                tokens_cached: sum(|usage| usage.tokens_cached),
                tokens_out: sum(|usage| usage.tokens_out),
            },
            cost_nanos: calls.iter().map(|call| call.price_nanos).sum(),
            latency_ms: calls.iter().map(|call| call.latency_ms).sum(),
            from_cache: calls.iter().all(|call| call.from_cache),
        })
    }

    fn as_json(&self) -> Value {
        json!({
            "calls": self.calls, "usage": self.usage, "cost_nanos": self.cost_nanos, "latency_ms": self.latency_ms,
            "from_cache": self.from_cache,
        })
    }

    fn line(&self, stage: &str) -> String {
        let count = |tokens: Option<u64>| tokens.map_or_else(|| "?".to_owned(), |tokens| tokens.to_string());
        let price = divvy_core::cost::show_price(self.cost_nanos);
        let calls = if self.calls == 1 { String::new() } else { format!("{} calls, ", self.calls) };
        let cached = if self.from_cache { ", from the store" } else { "" };
        format!(
            "{stage:<9} {calls}{} tokens in, {} out, {price}, {:.1} s{cached}\n",
            count(self.usage.tokens_in),
            count(self.usage.tokens_out),
            self.latency_ms as f64 / 1000.0
        )
    }
}

fn as_json(arm: &Arm, answer: &Answer) -> Value {
    json!({
        "arm": arm.slug(),
        "subquestions": answer.decomposition.as_ref().map(|steps| steps.steps().iter().map(|step| step.text.clone()).collect::<Vec<_>>()),
        "sub_answers": answer.sub_answers,
        "malformed": answer.malformed,
        "reply": answer.reply,
        "answer": final_answer(answer),
        "decompose": Spending::of(&answer.decompose_calls).map(|spending| spending.as_json()),
        "solve": Spending::of(&answer.solve_calls).map(|spending| spending.as_json()),
    })
}
