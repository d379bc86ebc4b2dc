//! One call: `direct` and `cot`.

use divvy_core::chat::Message;
use divvy_llm::ChatError;

use super::{Answer, Scene, Turn};

pub(super) async fn answer(scene: &Scene<'_>, messages: Vec<Message>, max_tokens: u32) -> Result<Answer, ChatError> {
    let call = scene.ask.ask(Turn::Solve, messages, scene.solving(max_tokens)).await?;
    Ok(Answer::default().concluded(call))
}
