//! One subquestion, one solver call; in `self-ask` the decomposer hears each answer before it asks on.

use divvy_core::{
    decomposition::Decomposition,
    prompts::{
        self_ask::{self, Next},
        stepwise::{self, Known},
    },
};
use divvy_llm::ChatError;

use super::{Answer, News, Scene, Setting, Turn};

/// Asks the solver one subquestion and keeps what it said.
pub(super) async fn ask_one(
    scene: &Scene<'_>,
    answer: &mut Answer,
    known: &mut Vec<Known>,
    subquestion: String,
) -> Result<(), ChatError> {
    let number = known.len() + 1;
    let messages = stepwise::subquestion(scene.setting.prompts, scene.question, known, &subquestion);
    let call =
        scene.ask.ask(Turn::Subquestion(number), messages, scene.solving(scene.setting.plan.solve_tokens)).await?;
    let sub_answer = stepwise::sub_answer(&call.reply.text, &call.reply.finish);
    scene.ask.told(News::SubAnswer { number, text: sub_answer.as_deref() });
    answer.solve_calls.push(call);
    answer.sub_answers.push(sub_answer.clone());
    known.push(Known { subquestion, answer: sub_answer });
    Ok(())
}

pub(super) async fn self_ask(scene: &Scene<'_>) -> Result<Answer, ChatError> {
    let (mut answer, mut known) = (Answer::default(), Vec::new());
    while known.len() < scene.setting.most() {
        match next(scene, &mut answer, &known).await? {
            Next::Ask(subquestion) => {
                scene.ask.told(News::Subquestion { number: known.len() + 1, text: &subquestion });
                ask_one(scene, &mut answer, &mut known, subquestion).await?;
            }
            Next::Unreadable if known.is_empty() => return Ok(unreadable(answer)),
            // What is known stands, whatever the decomposer says behind it.
            Next::Enough | Next::Unreadable => break,
        }
    }
    answer.decomposition = Some(Decomposition::from_texts(known.iter().map(|known| known.subquestion.clone())));
    let call = scene.solve(stepwise::conclusion(scene.setting.prompts, scene.question, &known)).await?;
    Ok(answer.concluded(call))
}

async fn next(scene: &Scene<'_>, answer: &mut Answer, known: &[Known]) -> Result<Next, ChatError> {
    let Setting { prompts, manner, .. } = scene.setting;
    let call = scene.decompose(self_ask::messages(prompts, manner.shots, scene.question, known)).await?;
    let next = match &call.reply.finish {
        withheld if withheld.is_refusal() => Next::Unreadable,
        finish => self_ask::parse_next(&call.reply.text, finish, known),
    };
    let text = answer.decomposer_text.get_or_insert_default();
    text.push_str(call.reply.text.trim());
    text.push('\n');
    answer.decompose_calls.push(call);
    Ok(next)
}

/// The first thing that the decomposer said is no subquestion.
fn unreadable(answer: Answer) -> Answer {
    let finish = answer.decompose_calls.last().map(|call| call.reply.finish.clone());
    Answer { malformed: true, finish: finish.unwrap_or_default(), ..answer }
}
