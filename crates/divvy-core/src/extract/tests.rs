use proptest::prelude::*;

use super::*;

fn check(reply: &str, text: &str, cue: Cue) {
    assert_eq!(final_answer(reply), Some(Extracted { text: text.to_owned(), cue }), "{reply:?}");
}

#[test]
fn cues() {
    for reply in [
        "She has 20 left.\nThe answer is: 18",
        "The answer is: 20.\nNo, wait. The answer is 18.",
        "**The answer is: 18**",
        "The answer is: **18** (see step 2).",
        "**Answer:** 18",
        "**Answer**: 18",
        "Final Answer:\n\n18",
        "THE ANSWER IS 18.",
        "The final answer to the original question is: 18.",
        "The answer is: \"18\".",
        "The answer is: [18]",
        "The answer is: $18$.",
        "The answer is \\(18\\).",
        "The answer is: 18. This is the final answer.",
        "The answer to the question is 18\n",
    ] {
        check(reply, "18", Cue::AnswerIs);
    }
    check("So.\n#### 18", "18", Cue::Hashes);
    check("The answer is: \\boxed{18}.", "18", Cue::Boxed);
    check("\\[\\boxed{\\frac{1}{2}}\\]", "\\frac{1}{2}", Cue::Boxed);
    check("The answer is: $29.00.", "$29.00", Cue::AnswerIs);
}

#[test]
fn what_is_no_cue() {
    check("To answer the question: add.\n\nIt is 18", "It is 18", Cue::LastLine);
    check("The answer to subquestion 1 is 5.\nIn all 18", "In all 18", Cue::LastLine);
    check("#### 1. First part\nIt is 18", "It is 18", Cue::LastLine);
    check("#### Step\nIt is 18", "It is 18", Cue::LastLine);
    check("The answer is: 18\nI hope the answer is", "18", Cue::AnswerIs);
}

#[test]
fn fallbacks() {
    check("18", "18", Cue::OnlyLine);
    check("James Madison.", "James Madison", Cue::OnlyLine);
    check("James Madison\n\nHe was president in 1812.", "James Madison", Cue::FirstLine);
    check("18\nbecause 9 * 2 = 18 eggs", "18", Cue::FirstLine);
    check("Step 1\n\nShe has 9.\nThen 18", "Then 18", Cue::LastLine);
    check("Solution\n\nShe has 9.\nThen 18", "Then 18", Cue::LastLine);
    check("Question Time\n\nIt was on the BBC.", "Question Time", Cue::FirstLine);
    check("Add them.\nShe makes **$18** a day.", "$18", Cue::Bold);
    check("First 3.\nThen 4.", "Then 4", Cue::LastLine);
}

#[test]
fn names_keep_their_full_stops() {
    check("The answer is: J. K. Rowling", "J. K. Rowling", Cue::AnswerIs);
    check("The answer is: Mt. Everest. It is high.", "Mt. Everest", Cue::AnswerIs);
    check("The answer is: **James Madison**, who won.", "James Madison", Cue::AnswerIs);
    check("The answer is: James Madison. He won.", "James Madison", Cue::AnswerIs);
}

#[test]
fn thoughts_answer_nothing() {
    check("<think>\nThe answer is: 5\n</think>\n\nIt is 18", "It is 18", Cue::OnlyLine);
    check("Is the answer: 5? No.\n</think>\nThe answer is: 18", "18", Cue::AnswerIs);
    assert_eq!(final_answer("<think>The answer is: 5"), None);
    assert_eq!(before_answer("<think>So the answer is 5.</think>3 * 6\nThe answer is: 18"), Some(THOUGHTS));
    assert_eq!(before_answer("<think>The answer is 5</think>It is 18"), None);
    assert_eq!(program("<think>```\nx = 1\n```\n</think>I cannot."), None);
}

const THOUGHTS: &str = "<think>So the answer is 5.</think>3 * 6";

#[test]
fn programs() {
    let two = "First:\n```python\nx = 1\n```\nBetter:\n```python\ndef f():\n    return 1\n```\nDone.";
    assert_eq!(program(two), Some("def f():\n    return 1"));
    for reply in ["", "x = 1", "```python\nx = 1", "``` ```", "```\n\n```", "```\nx\n```\n```python\ny ="] {
        assert_eq!(program(reply), None, "{reply:?}");
    }
}

#[test]
fn lists_below_a_cue() {
    for reply in [
        "The answer is:\n- Red\n- Green",
        "**The answers are:**\n\n* **Red**\n* Green.\n\nBoth are colours.",
        "<think>- Blue</think>So.\nAnswer:\n1. Red\n2) \"Green\"",
        "The answer is: - Blue\nNo, the answer is:\n• Red\n• Green",
    ] {
        assert_eq!(listed_answer(reply), Some(vec!["Red".to_owned(), "Green".to_owned()]), "{reply:?}");
    }
    for reply in [
        "The answer is: Red\n- Green",
        "The answer is:\nRed\n- Green",
        "The answer is:\n-5",
        "The answer is:\n3.5 yards",
        "- Red\n- Green",
        "The answer is:\n- Red\n- Green\n#### 2",
        "The answer is:",
    ] {
        assert_eq!(listed_answer(reply), None, "{reply:?}");
    }
}

#[test]
fn nothing_to_take() {
    for reply in ["", "  \n", "...", "**", "The answer is:", "So it is 5.\n**Answer:**"] {
        assert_eq!(final_answer(reply), None, "{reply:?}");
    }
}

proptest! {
    #[test]
    fn no_reply_panics(reply in any::<String>()) {
        if let Some(found) = final_answer(&reply) {
            prop_assert!(!found.text.is_empty());
        }
        prop_assert!(before_answer(&reply).is_none_or(|before| reply.starts_with(before)));
        let _ = (program(&reply), listed_answer(&reply));
    }

    #[test]
    fn no_cue_soup_panics(reply in "(the answer|answer| is|:|####|\\\\boxed|\\{|\\}|\\*\\*|\\$|\"|é|1|\\.| |\n|- ){0,40}") {
        prop_assert_eq!(before_answer(&reply).is_some(), marked(&reply).is_some());
        prop_assert!(listed_answer(&reply).is_none_or(|items| items.iter().all(|item| !item.is_empty())));
        prop_assert!(before_answer(&reply).is_none_or(|before| reply.starts_with(before)));
    }
}
