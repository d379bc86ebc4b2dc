//! The decomposition is written whole before anything is answered: in one solver call (`two-stage`), or one call a
//! subquestion (`sequential`).

use divvy_core::{
    decomposition::Subquestion,
    prompts::{
        stepwise::{self, Known},
        two_stage,
    },
};
use divvy_llm::ChatError;

use super::{Answer, News, Scene, stepwise::ask_one};

pub(super) async fn two_stage(scene: &Scene<'_>) -> Result<Answer, ChatError> {
    let answer = scene.decomposed().await?;
    let Some(decomposition) = &answer.decomposition else { return Ok(answer) };
    let messages = two_stage::messages(scene.setting.prompts, scene.setting.solving, scene.question, decomposition);
    let call = scene.solve(messages).await?;
    let sub_answers = two_stage::sub_answers(&call.reply.text, decomposition.steps());
    for (at, sub_answer) in sub_answers.iter().enumerate() {
        scene.ask.told(News::SubAnswer { number: at + 1, text: sub_answer.as_deref() });
    }
    Ok(Answer { sub_answers, ..answer }.concluded(call))
}

pub(super) async fn sequential(scene: &Scene<'_>) -> Result<Answer, ChatError> {
    let mut answer = scene.decomposed().await?;
    let Some(decomposition) = &answer.decomposition else { return Ok(answer) };
    let steps: Vec<Subquestion> = decomposition.steps().to_vec();
    let mut known: Vec<Known> = Vec::new();
    for step in steps {
        let next = stepwise::filled_in(&step.text, &known);
        ask_one(scene, &mut answer, &mut known, next).await?;
    }
    let call = scene.solve(stepwise::conclusion(scene.setting.prompts, scene.question, &known)).await?;
    Ok(answer.concluded(call))
}
