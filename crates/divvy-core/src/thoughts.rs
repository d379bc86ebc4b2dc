//! Thoughts that a model writes into its reply: `<think>…</think>`, of which some chat templates write the beginning themselves.
//! They are no part of what it says. Endpoints that tell thoughts apart from text have none in the text.

/// How thoughts begin, and how they end.
pub const BEGIN: &str = "<think>";
pub const END: &str = "</think>";

/// What a reply says behind its thoughts, which is its end; nothing, where they come to none.
#[must_use]
pub fn without_thoughts(reply: &str) -> &str {
    // The first end needs no beginning.
    let mut said = reply.split_once(END).map_or(reply, |(_, said)| said);
    while said.trim_start().starts_with(BEGIN) {
        said = said.split_once(END).map_or(&said[said.len()..], |(_, said)| said);
    }
    said
}

/// Whether there are any.
#[must_use]
pub fn has_thoughts(reply: &str) -> bool {
    without_thoughts(reply).len() < reply.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_said_stands_behind_the_thoughts() {
        for (reply, said) in [
            ("1. Who?", "1. Who?"),
            ("<think>\n1. Hm.\n</think>\n\n1. Who?", "\n\n1. Who?"),
            ("1. Hm.\n</think>\n1. Who?", "\n1. Who?"),
            (" <think>a</think> <think>b</think>42", "42"),
            ("<think>1. Hm.\n2. How", ""),
            ("<think>a</think>\n<think>b", ""),
            ("</think>", ""),
            ("To <think> is to doubt.", "To <think> is to doubt."),
            ("", ""),
        ] {
            assert_eq!(without_thoughts(reply), said, "{reply:?}");
            assert_eq!(has_thoughts(reply), said != reply, "{reply:?}");
        }
    }

    proptest! {
        #[test]
        fn it_is_the_end_of_the_reply(reply in "(<think>|</think>|1\\. |a|é| |\n|<){0,20}") {
            prop_assert!(reply.ends_with(without_thoughts(&reply)));
        }
    }
}
