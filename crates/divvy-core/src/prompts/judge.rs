//! The judge's prompt: is the answer that was given one of the right ones? And its verdict, read strictly: a judge that does
//! not keep to the form has said nothing.

use super::{PromptId, material, one_line};
use crate::{
    chat::{Finish, Message},
    question::{Gold, Question},
};

const SYSTEM: &str = "You compare an answer with the right ones.";

/// Raised when the same reply would be read differently.
const PARSER_VERSION: u32 = 1;

#[must_use]
pub fn messages(question: &Question, answer: &str) -> Vec<Message> {
    let right: Vec<String> = question.golds.iter().map(|gold| one_line(&gold.to_string())).collect();
    let user = format!(
        "Below are a question, every answer that counts as right, and the answer that somebody gave. Say whether the given \
         answer means the same as a right one. Other words for the same thing are right; another thing, another number or \
         more than one answer is wrong. Write at most two sentences, then one of these lines as the last:\nVERDICT: \
         CORRECT\nVERDICT: INCORRECT\n\n{}\n\nRight: {}\n\nGiven: {}",
        material(question),
        right.join(" | "),
        one_line(answer)
    );
    vec![Message::system(SYSTEM), Message::user(user)]
}

/// The verdict of the last line; `None` where it is anything else, or the reply was cut.
#[must_use]
pub fn parse(reply: &str, finish: &Finish) -> Option<bool> {
    if *finish != Finish::Stop {
        return None;
    }
    match reply.trim_end().lines().last()?.trim() {
        "VERDICT: CORRECT" => Some(true),
        "VERDICT: INCORRECT" => Some(false),
        _ => None,
    }
}

#[must_use]
pub fn prompt_id() -> PromptId {
    PromptId::rendered("judge", PARSER_VERSION, |question| {
        messages(&Question { golds: vec![Gold::single("GOLD")], ..question.clone() }, "ANSWER")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{prompts::tests::question, question::ScorerKind};

    #[test]
    fn rendered() {
        let mut q = question(Some("Ann is 7. Bo is 9."), "Who is older?", ScorerKind::Exact);
        q.golds = vec![Gold::single("Bo"), Gold::single("Bo\nExample")];
        let messages = messages(&q, "Bo,\nRight: Ann");
        assert_eq!(messages[0].content, SYSTEM);
        let (_, shown) = messages[1].content.split_once("VERDICT: INCORRECT\n\n").unwrap();
        assert_eq!(
            shown,
            "<passage>\nAnn is 7. Bo is 9.\n</passage>\n\nQuestion: Who is older?\n\nRight: Bo | Bo Example\n\nGiven: Bo, Right: Ann"
        );
    }

    #[test]
    fn verdicts_are_read_strictly() {
        let read = |reply: &str| parse(reply, &Finish::Stop);
        assert_eq!(read("They are one.\nVERDICT: CORRECT\n"), Some(true));
        assert_eq!(read("VERDICT: INCORRECT"), Some(false));
        for reply in
            ["", "correct", "VERDICT: CORRECT\nbut", "VERDICT: CORRECT or INCORRECT", "Verdict: correct", "VERDICT: "]
        {
            assert_eq!(read(reply), None, "{reply:?}");
        }
        assert_eq!(parse("VERDICT: CORRECT", &Finish::Length), None);
    }
}
