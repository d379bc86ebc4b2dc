//! Training rows in the forms that other trainers read. Every row carries its id and, under `divvy`, where it comes from.

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    chat::{Message, Role},
    graded::Kind,
};

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    PromptCompletion,
    Messages,
    Sharegpt,
    Alpaca,
    Ids,
    Preferences,
}

/// What a column of a table holds; any value may be missing.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    Plain(Kind),
    List(Box<Shape>),
    Record(Vec<(&'static str, Shape)>),
}

impl Form {
    pub const ALL: [Self; 6] =
        [Self::PromptCompletion, Self::Messages, Self::Sharegpt, Self::Alpaca, Self::Ids, Self::Preferences];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PromptCompletion => "prompt-completion",
            Self::Messages => "messages",
            Self::Sharegpt => "sharegpt",
            Self::Alpaca => "alpaca",
            Self::Ids => "ids",
            Self::Preferences => "preferences",
        }
    }

    /// What a row of this form holds, for a table that has to know before the first one comes.
    #[must_use]
    pub fn columns(self) -> Vec<(&'static str, Shape)> {
        let said = || list(Shape::Record(vec![("role", TEXT), ("content", TEXT)]));
        let turns = || list(Shape::Record(vec![("from", TEXT), ("value", TEXT)]));
        let mut columns = match self {
            Self::PromptCompletion => vec![("prompt", said()), ("completion", said())],
            Self::Messages => vec![("messages", said())],
            Self::Sharegpt => vec![("conversations", turns())],
            Self::Alpaca => vec![("instruction", TEXT), ("input", TEXT), ("output", TEXT)],
            Self::Ids => vec![("input_ids", list(INTEGER)), ("labels", list(INTEGER))],
            Self::Preferences => vec![("prompt", said()), ("chosen", said()), ("rejected", said())],
        };
        let source = match self {
            Self::Preferences => Shape::Record(vec![("chosen", source()), ("rejected", source())]),
            _ => source(),
        };
        columns.extend([("id", TEXT), ("divvy", source)]);
        columns
    }
}

const TEXT: Shape = Shape::Plain(Kind::Text);
const INTEGER: Shape = Shape::Plain(Kind::Integer);

fn list(element: Shape) -> Shape {
    Shape::List(Box::new(element))
}

/// The columns of a [`Provenance`].
fn source() -> Shape {
    Shape::Record(vec![
        ("plan", TEXT),
        ("target", TEXT),
        ("teacher", TEXT),
        ("author", TEXT),
        ("sample", INTEGER),
        ("call", TEXT),
        ("pass_rate", Shape::Plain(Kind::Float)),
        ("prompt_id", TEXT),
    ])
}

/// A row as a student learns it.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingRow {
    pub id: String,
    pub prompt: Vec<Message>,
    pub completion: String,
    pub provenance: Provenance,
}

/// Two completions of one prompt, the first of which is better.
#[derive(Clone, Debug, PartialEq)]
pub struct Preference {
    pub id: String,
    pub prompt: Vec<Message>,
    pub chosen: String,
    pub rejected: String,
    pub provenance: [Provenance; 2],
}

/// Where a completion comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Provenance {
    /// Plan digest, 64 hex digits.
    pub plan: String,
    pub target: String,
    /// Who wrote the decomposition.
    pub teacher: String,
    /// Who wrote the completion: `teacher`, `solver`, `gold`, or `teacher and gold`, row by row.
    pub author: &'static str,
    /// The teacher's how-manieth reply.
    pub sample: u32,
    /// Key of the call that brought the completion, see `divvy calls`; none for what is recorded or gold.
    pub call: Option<String>,
    /// Share of the solver's samples that were right with it; none where nothing was screened.
    pub pass_rate: Option<f64>,
    /// Digest of the prompt's template and parser.
    pub prompt_id: String,
}

impl TrainingRow {
    /// `{"prompt": […], "completion": […]}` (TRL, "conversational prompt-completion").
    #[must_use]
    pub fn prompt_completion(&self) -> Value {
        self.labelled(json!({ "prompt": self.prompt, "completion": [assistant(&self.completion)] }))
    }

    /// `{"messages": […]}` (OpenAI fine-tuning; TRL, "conversational language modeling").
    #[must_use]
    pub fn messages(&self) -> Value {
        let messages: Vec<Message> = self.prompt.iter().cloned().chain([assistant(&self.completion)]).collect();
        self.labelled(json!({ "messages": messages }))
    }

    /// `{"conversations": [{"from": "human", "value": …}, …]}` (FastChat).
    #[must_use]
    pub fn sharegpt(&self) -> Value {
        let said = self.prompt.iter().map(|message| (speaker(message.role), &message.content));
        let turns =
            said.chain([("gpt", &self.completion)]).map(|(from, value)| json!({ "from": from, "value": value }));
        self.labelled(json!({ "conversations": turns.collect::<Vec<_>>() }))
    }

    /// `{"instruction": …, "input": "", "output": …}` (Stanford Alpaca); system messages stand before the question.
    #[must_use]
    pub fn alpaca(&self) -> Value {
        let contents: Vec<&str> = self.prompt.iter().map(|message| message.content.as_str()).collect();
        self.labelled(json!({ "instruction": contents.join("\n\n"), "input": "", "output": self.completion }))
    }

    /// `{"input_ids": […], "labels": […]}`: the loss is on the completion alone, the rest is −100 (`transformers`).
    #[must_use]
    pub fn ids(&self, prompt: &[u32], completion: &[u32]) -> Value {
        let ids: Vec<u32> = prompt.iter().chain(completion).copied().collect();
        let masked = prompt.iter().map(|_| -100);
        let labels: Vec<i64> = masked.chain(completion.iter().map(|id| i64::from(*id))).collect();
        self.labelled(json!({ "input_ids": ids, "labels": labels }))
    }

    fn labelled(&self, row: Value) -> Value {
        labelled(row, &self.id, json!(self.provenance))
    }
}

impl Preference {
    /// `{"prompt": […], "chosen": […], "rejected": […]}` (TRL, "conversational preference").
    #[must_use]
    pub fn json(&self) -> Value {
        let said = |text: &str| [assistant(text)];
        let row = json!({ "prompt": self.prompt, "chosen": said(&self.chosen), "rejected": said(&self.rejected) });
        let [chosen, rejected] = &self.provenance;
        labelled(row, &self.id, json!({ "chosen": chosen, "rejected": rejected }))
    }
}

fn labelled(mut row: Value, id: &str, provenance: Value) -> Value {
    row["id"] = id.into();
    row["divvy"] = provenance;
    row
}

fn assistant(text: &str) -> Message {
    Message::assistant(text)
}

fn speaker(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "human",
        Role::Assistant => "gpt",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provenance(sample: u32) -> Provenance {
        Provenance {
            plan: "p".into(),
            target: "SD-R".into(),
            teacher: "big".into(),
            author: "teacher",
            sample,
            call: Some("c".into()),
            pass_rate: Some(0.5),
            prompt_id: "q".into(),
        }
    }

    fn row() -> TrainingRow {
        let prompt = vec![Message::system("Divide."), Message::user("How many?")];
        TrainingRow { id: "synth/train/1".into(), prompt, completion: "1. Which?".into(), provenance: provenance(0) }
    }

    #[test]
    fn each_form_has_the_whole_row_and_its_provenance() {
        let row = row();
        let assistant = json!({ "role": "assistant", "content": "1. Which?" });
        let (system, user) =
            (json!({ "role": "system", "content": "Divide." }), json!({ "role": "user", "content": "How many?" }));
        assert_eq!(row.messages()["messages"], json!([system, user, assistant]));
        assert_eq!(row.prompt_completion()["prompt"], json!([system, user]));
        assert_eq!(row.prompt_completion()["completion"], json!([assistant]));
        assert_eq!(row.sharegpt()["conversations"][2], json!({ "from": "gpt", "value": "1. Which?" }));
        assert_eq!(row.alpaca()["instruction"], "Divide.\n\nHow many?");
        let ids = row.ids(&[5, 6], &[7, 2]);
        assert_eq!((&ids["input_ids"], &ids["labels"]), (&json!([5, 6, 7, 2]), &json!([-100, -100, 7, 2])));
        for form in [row.messages(), row.prompt_completion(), row.sharegpt(), row.alpaca(), ids] {
            assert_eq!((&form["id"], &form["divvy"]["pass_rate"]), (&json!("synth/train/1"), &json!(0.5)));
        }
    }

    fn pair() -> Preference {
        Preference {
            id: "q".into(),
            prompt: vec![Message::user("How many?")],
            chosen: "1. Which?".into(),
            rejected: "Hm.".into(),
            provenance: [provenance(2), provenance(0)],
        }
    }

    /// Nothing of a value is left out by its shape.
    fn fits(value: &Value, shape: &Shape) -> bool {
        match (value, shape) {
            (Value::Object(object), Shape::Record(fields)) => {
                let known = |(key, value): (&String, &Value)| {
                    fields.iter().any(|(name, shape)| name == key && fits(value, shape))
                };
                object.len() == fields.len() && object.iter().all(known)
            }
            (Value::Array(items), Shape::List(element)) => items.iter().all(|item| fits(item, element)),
            (Value::String(_), Shape::Plain(Kind::Text)) => true,
            (Value::Number(number), Shape::Plain(Kind::Integer)) => number.is_i64(),
            (Value::Number(number), Shape::Plain(Kind::Float)) => number.is_f64(),
            _ => false,
        }
    }

    #[test]
    fn a_form_tells_its_columns_before_it_has_rows() {
        let row = row();
        for form in Form::ALL {
            let value = match form {
                Form::PromptCompletion => row.prompt_completion(),
                Form::Messages => row.messages(),
                Form::Sharegpt => row.sharegpt(),
                Form::Alpaca => row.alpaca(),
                Form::Ids => row.ids(&[5, 6], &[7, 2]),
                Form::Preferences => pair().json(),
            };
            assert!(fits(&value, &Shape::Record(form.columns())), "{}: {value}", form.name());
        }
    }

    #[test]
    fn a_preference_names_both_sources() {
        let json = pair().json();
        assert_eq!(
            (&json["chosen"][0]["content"], &json["rejected"][0]["content"]),
            (&json!("1. Which?"), &json!("Hm."))
        );
        assert_eq!((&json["divvy"]["chosen"]["sample"], &json["divvy"]["rejected"]["sample"]), (&json!(2), &json!(0)));
    }
}
