//! The model's own chat template (Jinja, through minijinja) from messages to token ids.
//!
//! What a user writes must never become a special token: `<|im_end|>` in a question is seven plain tokens, not the end
//! of the turn. Yet the text around a content and the content itself must be tokenised together, as they were in
//! training. So every place in a content where a special token is spelled (or begins, at the content's end) is broken
//! by a sentinel, a Unicode noncharacter that occurs nowhere in the conversation; the template is rendered; special
//! tokens are matched in the result, where only the template's own are whole; and the sentinels are taken out of the
//! plain stretches between them before those are tokenised.
//!
//! A template is a program of whoever made the file: it gets so many steps and may make so much text, and no more.

mod growth;
mod tree;

use std::collections::BTreeMap;
use std::error::Error;

use divvy_core::chat::{Message, Role};
use minijinja::machinery::{CodeGenerator, Instructions, Vm, make_string_output};
use minijinja::{AutoEscape, Environment, ErrorKind, Value, context};

use crate::error::TextError;
use crate::tokenizer::{Specials, TextTokenizer};

/// Steps that a template may take for a conversation: those of the models take some hundred for a message.
const MOST_STEPS: u64 = 1_000_000;
/// Bytes of text that it may make on the way besides the messages, and how often it may repeat those.
const MOST_BYTES: usize = 16 << 20;
const MOST_COPIES: usize = 64;

/// A chat template that can be compiled. It is compiled for each conversation, which takes less than tokenising one: what
/// counts all that a template makes comes in between its syntax and its steps.
pub struct ChatTemplate {
    text: String,
    environment: Environment<'static>,
}

impl ChatTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// A syntax error, or a tag that is for templates of several files, with its line.
    pub fn new(text: String) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_fuel(Some(MOST_STEPS));
        growth::count(&mut environment);
        environment.add_function("raise_exception", |message: String| -> Result<(), minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        let template = Self { text, environment };
        template.compiled()?;
        Ok(template)
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
        let values = context! {
            messages => shielded,
            add_generation_prompt => true,
            bos_token => tokenizer.bos_text,
            eos_token => tokenizer.eos_text,
        };
        Ok((self.written(values, MOST_BYTES + MOST_COPIES * bytes)?, sentinel))
    }

    /// What it writes, where it makes at most so many bytes.
    fn written(&self, values: Value, most: usize) -> Result<String, TextError> {
        let (purse, blocks) = (growth::Purse::new(most), BTreeMap::new());
        let counted = Value::from_iter([(growth::PURSE, Value::from_dyn_object(purse.clone()))]);
        let instructions = self.compiled().map_err(TextError::Template)?;
        let mut text = String::new();
        let mut out = make_string_output(&mut text);
        let values = context! { ..values, ..counted };
        match Vm::new(&self.environment).eval(&instructions, values, &blocks, &mut out, AutoEscape::None) {
            Ok(_) => Ok(text),
            Err(_) if purse.is_empty() => {
                Err(TextError::Endless(format!("makes more than {most} bytes for a conversation; {ANOTHER}")))
            }
            Err(error) if out_of_steps(&error) => {
                Err(TextError::Endless(format!("takes more than {MOST_STEPS} steps for a conversation; {ANOTHER}")))
            }
            Err(error) => Err(TextError::Template(error.to_string())),
        }
    }

    fn compiled(&self) -> Result<Instructions<'_>, String> {
        let mut generator = CodeGenerator::new("chat", &self.text);
        generator.compile_stmt(&tree::counted(&self.text)?);
        Ok(generator.finish().0)
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

/// Whether that is the cause, perhaps of another.
fn out_of_steps(error: &minijinja::Error) -> bool {
    let causes = std::iter::successors(Some(error as &(dyn Error + 'static)), |&error| error.source());
    let mut known = causes.filter_map(|error| error.downcast_ref::<minijinja::Error>());
    known.any(|error| error.kind() == ErrorKind::OutOfFuel)
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

    fn load(text: String) -> Option<String> {
        ChatTemplate::new(text).and_then(|template| template.with_bos(&tiny_tokenizer())).err()
    }

    #[test]
    fn a_template_that_comes_to_no_end_is_refused_at_load() {
        let loops = |inside: &str| {
            let begin: String = ('a'..='d').map(|name| format!("{{% for {name} in range(99999) %}}")).collect();
            format!("{begin}{inside}{}", "{% endfor %}".repeat(4))
        };
        let silent = load(loops("")).expect("must be refused");
        assert!(silent.contains("more than 1000000 steps") && silent.contains("take the file from"), "{silent}");
        let loud = load(loops(&"x".repeat(100_000))).expect("must be refused");
        assert!(loud.contains("more than 16777280 bytes"), "{loud}");
        assert_eq!(load(crate::testing::CHATML.into()), None);
    }

    #[test]
    fn a_template_that_doubles_a_text_by_any_means_is_refused_at_load() {
        let x = "{% set x = 'aaaaaaaa' %}";
        let l = "{% set x = ['aaaaaaaa'] %}";
        let forty = |first: &str, step: &str| format!("{first}{}", step.repeat(40));
        let nested = (0..40).fold("x".to_owned(), |inner, _| format!("m({inner})"));
        let many = |inside: &str| format!("{{% for i in range(99999) %}}{inside}{{% endfor %}}");
        let space = "{% set n = namespace(x='aaaaaaaa', l=[]) %}";
        let all = [
            forty(x, "{% set x = x ~ x %}"),
            forty(x, "{% set x = x + x %}"),
            forty(x, "{% set y = x ~ '' %}{% set x = x ~ y %}"),
            forty(x, "{% set x = x * 2 %}"),
            forty(x, "{% set x = x|replace('a', 'aa') %}"),
            forty(x, "{% set x = x.replace('a', 'aa') %}"),
            forty(x, "{% set x = [x, x]|join %}"),
            forty(x, "{% set x = ''.join([x, x]) %}"),
            forty(x, "{% set x = [x, x]|string %}"),
            forty(x, "{% set x = [x]|tojson(indent=8) %}{% set x = x ~ x %}"),
            forty(x, "{% set x %}{{ x }}{{ x }}{% endset %}"),
            forty(x, "{% set x %}{% filter upper %}{{ x }}{{ x }}{% endfilter %}{% endset %}"),
            forty(l, "{% set x = x + x %}") + "{{ x|join }}",
            forty(l, "{% set x = [x, x] %}") + "{{ x }}",
            forty(l, "{% set x = {'a': x, 'b': x} %}") + "{{ x == x }}",
            forty(l, "{% set x = ['', '']|map('default', x, true)|list %}") + "{{ x }}",
            format!("{x}{{% macro m(x) %}}{{{{ x }}}}{{{{ x }}}}{{% endmacro %}}{{{{ {nested} }}}}"),
            format!("{{% set a = {} %}}", ["('a' * 99999999)"; 60].join(" ~ ")),
            "{% set x = 'a' * 99999999 %}".repeat(99),
            format!("{space}{}", many("{% set n.x = n.x ~ 'aaaaaaaa' %}")),
            format!("{space}{}", many("{% set n.l = [n.l] %}")),
            format!("{{% set x %}}{}{{% endset %}}", many(&"x".repeat(100_000))),
        ];
        for text in all {
            let refused = load(text.clone()).unwrap_or_else(|| panic!("taken: {}", &text[..text.len().min(200)]));
            assert!(refused.contains("makes more than 16777280 bytes"), "{refused} from {}", &text[..60]);
        }
    }

    #[test]
    fn what_a_template_could_hold_within_itself_or_recurse_over_is_an_error_and_no_end_of_the_process() {
        let render = |text: String| {
            ChatTemplate::new(text)?.render(&[Message::user("x")], &tiny_tokenizer()).map_err(|error| error.to_string())
        };
        let space = "{% set n = namespace() %}";
        for text in [
            format!("{space}{{% set n.x = n %}}{{{{ n }}}}"),
            format!("{space}{{% set n.x = [n] %}}{{{{ n }}}}"),
            format!("{space}{{% set n.x = [none]|map('default', n, true) %}}{{{{ n }}}}"),
            format!("{space}{{% set m = namespace(n=n) %}}{{% set n.x = m %}}{{{{ n }}}}"),
            "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}".into(),
            format!("{{{{ x{} }}}}", ".a".repeat(100_000)),
            format!("{{{{ x{} }}}}", " ~ x".repeat(100_000)),
            format!("{{{{ {}x }}}}", "not ".repeat(100_000)),
            format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(100_000)),
            format!("{{{{ {}x }}}}", "[".repeat(499)),
            "{{ [1] * 99999999999 }}".into(),
            "{{ 'x'.count('') }}".into(),
            "{{ '%999999999d'|format(1) }}".into(),
            "{% include 'chat' %}".into(),
        ] {
            render(text.clone()).expect_err(&text[..text.len().min(100)]);
        }
        // And as deep as it goes, it is no end of the process either.
        for longest in [".a", " ~ x", "|trim", "()"] {
            ChatTemplate::new(format!("{{{{ x{} }}}}", longest.repeat(245))).unwrap();
        }
    }

    #[test]
    fn a_template_does_with_texts_and_lists_what_it_did_uncounted() {
        let template = "{% set n = namespace(all=[], text='') %}{% for m in messages[::-1] %}\
            {% set n.all = n.all + [m.role ~ loop.index] %}{% set n.text = n.text + m.content|trim %}{% endfor %}\
            {% macro tag(x) %}<{{ x }}>{% endmacro %}{{ tag('a' * 3) }}{{ n.all|join(',') }} {{ n.text }}\
            {{ messages[1:]|length }}{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|list }}\
            {{ {'a': [1, none, 'b\"']}|tojson }}{{ 'a-b'.split('-')[-1].upper() }}{{ 1 + 2 * 3 }}{{ 1.5 + 1 }}\
            {{ (messages|first).content.replace('x', 'yy') }}{{ 'abc'[1:] }}{{ [1, 2] + [3] }}";
        let template = ChatTemplate::new(template.into()).unwrap();
        let text = template.render(&[Message::user(" x "), Message::assistant("z")], &tiny_tokenizer()).unwrap();
        assert_eq!(text, "<aaa>assistant1,user2 zx1[\" x \"]{\"a\":[1,null,\"b\\\"\"]}B72.5 yy bc[1, 2, 3]");
    }

    /// How Qwen 3's and Llama 3's templates say it.
    #[test]
    fn idioms_of_the_models_templates_are_taken() {
        let qwen = "{%- set ns = namespace(multi=true, last=messages|length - 1) %}\
            {%- for message in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}\
            {%- if ns.multi and message.role == 'user' and message.content is string and not(message.content.startswith('<t>') and message.content.endswith('</t>')) %}\
            {%- set ns.multi = false %}{%- set ns.last = index %}{%- endif %}{%- endfor %}\
            {%- for message in messages %}{%- if message.content is string %}{%- set content = message.content %}{%- else %}{%- set content = '' %}{%- endif %}\
            {%- if message.role == 'assistant' %}{%- set reasoning = '' %}{%- if message.reasoning_content is string %}{%- set reasoning = message.reasoning_content %}\
            {%- else %}{%- if '</think>' in content %}\
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}\
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}{%- endif %}\
            {{- '[' + message.role + ']' + reasoning.strip('\\n') + '|' + content }}\
            {%- else %}{{- '[' + message.role + ']' + content }}{%- endif %}{%- endfor %}{{- ns.last }}\
            {%- if enable_thinking is defined and enable_thinking is false %}{{- 'no' }}{%- endif %}";
        let llama = "{{- bos_token }}{%- if custom_tools is defined %}{%- set tools = custom_tools %}{%- endif %}\
            {%- if not date_string is defined %}{%- if strftime_now is defined %}{%- set date_string = strftime_now('%d') %}\
            {%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}{%- endif %}\
            {%- if not tools is defined %}{%- set tools = none %}{%- endif %}\
            {%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content']|trim %}{%- set messages = messages[1:] %}\
            {%- else %}{%- set system = '' %}{%- endif %}{{- date_string ~ system }}\
            {%- if builtin_tools is defined or tools is not none %}{{- builtin_tools | reject('equalto', 'x') | join(', ') }}{{- t | tojson(indent=4) }}{%- endif %}\
            {%- for message in messages %}{%- if not (message.role == 'ipython' or 'tool_calls' in message) %}\
            {{- '<' + message['role'] + '>'+ message['content'] | trim + '.' }}{%- endif %}{%- endfor %}";
        let said = [Message::user("q"), Message::assistant("<think>\nwhy\n</think>\n\nso"), Message::user(" r ")];
        for (template, want) in [
            (qwen, "[user]q[assistant]why|so[user] r 2"),
            (llama, "26 Jul 2024<user>q.<assistant><think>\nwhy\n</think>\n\nso.<user>r."),
        ] {
            let text = ChatTemplate::new(template.into()).unwrap().render(&said, &tiny_tokenizer()).unwrap();
            assert_eq!(text, want);
        }
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
