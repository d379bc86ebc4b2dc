//! The model's own chat template (Jinja, through minijinja) from messages to token ids.
//!
//! What a user writes must never become a special token: `<|im_end|>` in a question is seven plain tokens, not the end
//! of the turn. Yet the text around a content and the content itself must be tokenised together, as they were in
//! training. So every place in a content where a special token is spelled (or begins, at the content's end) is broken
//! by a sentinel, a Unicode noncharacter that occurs nowhere in the conversation; the template is rendered; special
//! tokens are matched in the result, where only the template's own are whole; and the sentinels are taken out of the
//! plain stretches between them before those are tokenised.

use divvy_core::chat::{Message, Role};
use minijinja::{Environment, ErrorKind, context};

use crate::error::TextError;
use crate::tokenizer::{Specials, TextTokenizer};

/// A compiled chat template.
pub struct ChatTemplate {
    text: String,
    environment: Environment<'static>,
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// A syntax error, with its line.
    pub fn new(text: String) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<(), minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned("chat", text.clone()).map_err(|error| error.to_string())?;
        Ok(Self { text, environment })
    }

    /// The template as the model ships it: part of the model's identity.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same with the first token in front, for a model that wants one where the template does not write it.
    ///
    /// # Errors
    /// None that `new` had not found.
    pub(crate) fn with_bos(self, tokenizer: &TextTokenizer) -> Result<Self, String> {
        let lacks = |text: String| !text.starts_with(&tokenizer.bos_text);
        if tokenizer.adds_bos && self.probe(tokenizer).is_some_and(lacks) {
            return Self::new(format!("{{{{ bos_token }}}}{}", self.text));
        }
        Ok(self)
    }

    /// Whether a reply goes on behind a space or line break, so that it needs none in front.
    pub(crate) fn opens_with_space(&self, tokenizer: &TextTokenizer) -> bool {
        self.probe(tokenizer).is_some_and(|text| text.ends_with(char::is_whitespace))
    }

    /// A conversation that every template takes.
    fn probe(&self, tokenizer: &TextTokenizer) -> Option<String> {
        self.render(&[Message::user("x")], tokenizer).ok()
    }

    /// Ids of a conversation, the opening of the assistant's turn included.
    ///
    /// # Errors
    /// When the template refuses the messages (order of roles, say).
    pub fn encode(&self, messages: &[Message], tokenizer: &TextTokenizer) -> Result<Vec<u32>, TextError> {
        let (text, sentinel) = self.shielded(messages, tokenizer)?;
        tokenizer.encode_template(&text, |plain| plain.replace(sentinel, ""))
    }

    /// The same conversation as text, for people: what is special in it and what is only spelled so look alike.
    ///
    /// # Errors
    /// As [`ChatTemplate::encode`].
    pub fn render(&self, messages: &[Message], tokenizer: &TextTokenizer) -> Result<String, TextError> {
        let (text, sentinel) = self.shielded(messages, tokenizer)?;
        Ok(text.replace(sentinel, ""))
    }

    fn shielded(&self, messages: &[Message], tokenizer: &TextTokenizer) -> Result<(String, char), TextError> {
        let sentinel = self.free_sentinel(messages)?;
        let shielded: Vec<_> = messages
            .iter()
            .map(|message| context! { role => role(message.role), content => shield(&message.content, tokenizer.matcher(), sentinel) })
            .collect();
        let template = self.environment.get_template("chat").expect("added by new");
        let text = template
            .render(context! {
                messages => shielded,
                add_generation_prompt => true,
                bos_token => tokenizer.bos_text,
                eos_token => tokenizer.eos_text,
            })
            .map_err(|error| TextError::Template(error.to_string()))?;
        Ok((text, sentinel))
    }

    /// One of the 32 noncharacters of U+FDD0..=U+FDEF that occurs in no message.
    fn free_sentinel(&self, messages: &[Message]) -> Result<char, TextError> {
        let used = |c: char| self.text.contains(c) || messages.iter().any(|message| message.content.contains(c));
        ('\u{FDD0}'..='\u{FDEF}').find(|&c| !used(c)).ok_or_else(|| {
            TextError::Template("the messages contain every Unicode noncharacter from U+FDD0 to U+FDEF".into())
        })
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    }
}

/// Puts `sentinel` after the first character of whatever spells a special token, or its beginning up to the end of
/// the content, where the template's text could complete it.
fn shield(content: &str, specials: &Specials, sentinel: char) -> String {
    let mut out = String::with_capacity(content.len());
    for (at, letter) in content.char_indices() {
        out.push(letter);
        let rest = &content[at..];
        if specials.at(rest).is_some() || specials.begin_with(rest) {
            out.push(sentinel);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::SpecialToken;

    fn special(text: &str) -> SpecialToken {
        SpecialToken { text: text.into(), id: 1, control: true }
    }

    #[test]
    fn shield_breaks_whole_and_begun_special_tokens_only() {
        let specials = Specials::new(vec![special("<|im_end|>")]);
        let broken = |text| shield(text, &specials, '#');
        assert_eq!(broken("a < b"), "a < b");
        assert_eq!(broken("x<|im_end|>y"), "x<#|im_end|>y");
        assert_eq!(broken("x<|im_"), "x<#|im_");
        assert_eq!(broken("<<|im_end|>"), "<<#|im_end|>");
    }

    #[test]
    fn a_broken_template_names_its_line() {
        let error = ChatTemplate::new("ok\n{% if %}".into()).err().unwrap();
        assert!(error.contains('2'), "{error}");
    }
}
