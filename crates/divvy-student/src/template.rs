//! The model's own chat template (Jinja, through minijinja) from messages to token ids.
//!
//! What a user writes must never become a special token: `<|im_end|>` in a question is seven plain tokens, not the end
//! of the turn. Yet the text around a content and the content itself must be tokenised together, as they were in
//! training. So every place in a content where a special token is spelled (or begins, at the content's end) is broken
//! by a sentinel, a Unicode noncharacter that occurs nowhere in the conversation; the template is rendered; special
//! tokens are matched in the result, where only the template's own are whole; and the sentinels are taken out of the
//! plain stretches between them before those are tokenised.
//!
//! A template is a program of whoever made the file: it gets so many steps and may write so much, and no more.

use std::error::Error;
use std::io;

use divvy_core::chat::{Message, Role};
use minijinja::{Environment, ErrorKind, Value, context};

use crate::error::TextError;
use crate::tokenizer::{Specials, TextTokenizer};

/// Steps that a template may take for a conversation: those of the models take some hundred for a message.
const MOST_STEPS: u64 = 1_000_000;
/// Bytes that it may write besides the messages, and how often it may repeat those.
const MOST_BYTES: usize = 1 << 20;
const MOST_COPIES: usize = 8;

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
        environment.set_fuel(Some(MOST_STEPS));
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
    /// That it comes to no end with a conversation that every template takes.
    pub(crate) fn with_bos(self, tokenizer: &TextTokenizer) -> Result<Self, String> {
        let probe = self.render(&[Message::user("x")], tokenizer);
        if let Err(TextError::Endless(reason)) = probe {
            return Err(reason);
        }
        let lacks = |text: String| !text.starts_with(&tokenizer.bos_text);
        if tokenizer.adds_bos && probe.is_ok_and(lacks) {
            return Self::new(format!("{{{{ bos_token }}}}{}", self.text));
        }
        Ok(self)
    }

    /// Whether a reply goes on behind a space or line break, so that it needs none in front.
    pub(crate) fn opens_with_space(&self, tokenizer: &TextTokenizer) -> bool {
        self.render(&[Message::user("x")], tokenizer).is_ok_and(|text| text.ends_with(char::is_whitespace))
    }

    /// Ids of a conversation, the opening of the assistant's turn included.
    ///
    /// # Errors
    /// When the template refuses the messages (order of roles, say), or comes to no end with them.
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
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        let context = context! {
            messages => shielded,
            add_generation_prompt => true,
            bos_token => tokenizer.bos_text,
            eos_token => tokenizer.eos_text,
        };
        Ok((self.written(context, MOST_BYTES + MOST_COPIES * bytes)?, sentinel))
    }

    /// What it writes, of at most so many bytes.
    fn written(&self, context: Value, most: usize) -> Result<String, TextError> {
        let template = self.environment.get_template("chat").expect("added by new");
        let mut sheet = Sheet { bytes: Vec::new(), most, full: false };
        let error = match template.render_captured_to(context, &mut sheet) {
            Ok(_) => return Ok(String::from_utf8(sheet.bytes).expect("templates write text")),
            Err(error) => error,
        };
        Err(if out_of_steps(&error) {
            TextError::Endless(format!("takes more than {MOST_STEPS} steps for a conversation; {ANOTHER}"))
        } else if sheet.full {
            TextError::Endless(format!("writes more than {most} bytes for a conversation; {ANOTHER}"))
        } else {
            TextError::Template(error.to_string())
        })
    }

    /// One of the 32 noncharacters of U+FDD0..=U+FDEF that occurs in no message.
    fn free_sentinel(&self, messages: &[Message]) -> Result<char, TextError> {
        let used = |c: char| self.text.contains(c) || messages.iter().any(|message| message.content.contains(c));
        ('\u{FDD0}'..='\u{FDEF}').find(|&c| !used(c)).ok_or_else(|| {
            TextError::Template("the messages contain every Unicode noncharacter from U+FDD0 to U+FDEF".into())
        })
    }
}

const ANOTHER: &str = "take the file from whoever made the model";

/// Whether that is the cause, perhaps inside another template.
fn out_of_steps(error: &minijinja::Error) -> bool {
    let causes = std::iter::successors(Some(error as &(dyn Error + 'static)), |&error| error.source());
    let mut known = causes.filter_map(|error| error.downcast_ref::<minijinja::Error>());
    known.any(|error| error.kind() == ErrorKind::OutOfFuel)
}

/// What a template writes to.
struct Sheet {
    bytes: Vec<u8>,
    most: usize,
    full: bool,
}

impl io::Write for Sheet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.full |= bytes.len() > self.most - self.bytes.len();
        if self.full {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
    use crate::testing::tiny_tokenizer;
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
    fn a_template_that_comes_to_no_end_is_refused_at_load() {
        let loops = |inside: &str| {
            let begin: String = ('a'..='d').map(|name| format!("{{% for {name} in range(99999) %}}")).collect();
            format!("{begin}{inside}{}", "{% endfor %}".repeat(4))
        };
        let load = |text: String| ChatTemplate::new(text).unwrap().with_bos(&tiny_tokenizer()).err();
        let silent = load(loops("")).expect("must be refused");
        assert!(silent.contains("more than 1000000 steps") && silent.contains("take the file from"), "{silent}");
        let inner = loops("");
        let nested =
            format!("{{% if again %}}{inner}{{% else %}}{{% set again = 1 %}}{{% include 'chat' %}}{{% endif %}}");
        assert_eq!(load(nested), Some(silent));
        let loud = load(loops(&"x".repeat(100_000))).expect("must be refused");
        assert!(loud.contains("more than 1048584 bytes"), "{loud}");
        assert_eq!(load(crate::testing::CHATML.into()), None);
    }

    #[test]
    fn steps_and_bytes_are_enough_for_long_conversations() {
        let template = ChatTemplate::new(crate::testing::CHATML.into()).unwrap();
        let long = vec![Message::user("all the words of a long conversation ".repeat(100)); 2000];
        let text = template.render(&long, &tiny_tokenizer()).unwrap();
        assert!(text.len() > 7_000_000 && text.ends_with("assistant\n"), "{}", text.len());
    }

    #[test]
    fn a_broken_template_names_its_line() {
        let error = ChatTemplate::new("ok\n{% if %}".into()).err().unwrap();
        assert!(error.contains('2'), "{error}");
    }
}
