//! `divvy export --for`: a student with all that an engine of others needs to serve it, and the command that starts it.

use std::{fs, path::Path};

use anyhow::Context as _;
use divvy_core::{
    chat::{Message, Role},
    prompts::decompose::Style,
};
use divvy_launch::engines::{self, Engine, Modelfile, Served, Turn};
use divvy_student::{model::Model, template::ChatTemplate, tokenizer::TextTokenizer};

use crate::{
    cli::StudentForm,
    commands::export::{Files, Work},
    output::{Usage, print, say},
};

/// What is to be written, when nothing stands in its way.
pub(crate) struct HandOver {
    engine: Engine,
    served: Served,
    modelfile: Option<String>,
    /// Forms, each with the folder under `--out` that it has to itself.
    parts: Vec<(StudentForm, &'static str)>,
}

impl HandOver {
    /// # Errors
    /// What the engine cannot do.
    pub(crate) fn prepare(work: &Work<'_>, engine: Engine) -> anyhow::Result<Self> {
        let lora = work.lora();
        let parts = parts(engine, lora);
        let out = std::path::absolute(work.asked.out)?;
        let path = |part: usize| shown(&out.join(parts[part].1).join(work.file_of(parts[part].0)));
        let served = Served {
            name: engine.model_name(work.asked.student),
            weights: path(0),
            adapter: lora.then(|| (path(1), work.plan.rank)),
            modelfile: shown(&out.join("Modelfile")),
        };
        engines::check(engine, &served).map_err(|reason| Usage(format!("--for {}: {reason}", engine.name())))?;
        if engine != Engine::Vllm {
            work.check_gguf()?;
        }
        let modelfile = (engine == Engine::Ollama).then(|| modelfile(work, &parts)).transpose()?;
        Ok(Self { engine, served, modelfile, parts })
    }

    /// Writes all of it into the folder of the work.
    pub(crate) fn write(&self, work: &Work<'_>) -> anyhow::Result<Files> {
        let mut files = Files::new();
        for &(form, within) in &self.parts {
            let folder = work.folder.join(within);
            fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
            let written = work.at(&folder).write(form)?;
            let inside = |name: String| if within.is_empty() { name } else { format!("{within}/{name}") };
            files.extend(written.into_iter().map(|(name, what)| (inside(name), what)));
        }
        if let Some(text) = &self.modelfile {
            let path = work.folder.join("Modelfile");
            fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
            files.push(("Modelfile".to_owned(), "what `ollama create` reads".to_owned()));
        }
        Ok(files)
    }

    /// Tells how it is served, and how divvy asks it then.
    pub(crate) fn tell(&self, work: &Work<'_>) -> anyhow::Result<()> {
        print(&engines::script(self.engine, &self.served))?;
        say(&format!("as a model of a recipe:\n{}", engines::recipe_lines(self.engine, &self.served.name)));
        if work.plan.style == Style::QuestionOnly {
            say("it was trained on the question alone, and a model of a recipe is asked with the prompt `decompose`: \
                 word [prompts.decompose] as the question");
        }
        if work.plan.shots > 0 {
            let shots = work.plan.shots;
            say(&format!(
                "it was trained with {shots} demonstrations in its prompts, which a model of a recipe is shown only where the recipe \
                 writes them and a strategy ends in +shots={shots}; `divvy export --rows messages` has them"
            ));
        }
        Ok(())
    }
}

/// The weights, and the adapter where there is one.
fn parts(engine: Engine, lora: bool) -> Vec<(StudentForm, &'static str)> {
    match (engine, lora) {
        (Engine::Vllm, true) => vec![(StudentForm::Base, "base"), (StudentForm::Peft, "adapter")],
        (Engine::Vllm, false) => vec![(StudentForm::Safetensors, "model")],
        (_, true) => vec![(StudentForm::BaseGguf, ""), (StudentForm::GgufLora, "")],
        (_, false) => vec![(StudentForm::Gguf, "")],
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().trim_end_matches('/').to_owned()
}

fn modelfile(work: &Work<'_>, parts: &[(StudentForm, &str)]) -> anyhow::Result<String> {
    let refused = |reason: String| Usage(format!("--for ollama: {reason}; use --for llama.cpp"));
    let model = work.speaker()?;
    let turn = turn(&model.template, &model.tokenizer).map_err(refused)?;
    let file = |form: StudentForm| work.file_of(form);
    let adapter = parts.get(1).map(|part| file(part.0));
    let text = Modelfile {
        weights: &file(parts[0].0),
        adapter: adapter.as_deref(),
        turn: &turn,
        stops: &stops(&model),
        context: work.plan.max_row_tokens.max(4096).min(model.config.context_length),
    };
    Ok(text.text().map_err(refused)?)
}

/// Every token that ends a reply, as it is spelled.
fn stops(model: &Model) -> Vec<String> {
    let specials = model.tokenizer.specials().iter();
    let mut stops: Vec<String> =
        specials.filter(|token| model.tokenizer.is_stop(token.id)).map(|token| token.text.clone()).collect();
    stops.sort();
    stops
}

const SYSTEM: &str = "DIVVY-SYSTEM";
const USER: &str = "DIVVY-USER";

/// Ollama has a template language of its own: the texts around words are those that the model's template renders.
fn turn(template: &ChatTemplate, tokenizer: &TextTokenizer) -> Result<Turn, String> {
    let message = |role, content: &str| Message { role, content: content.to_owned() };
    let user = message(Role::User, USER);
    let plain = template.render(std::slice::from_ref(&user), tokenizer).map_err(|error| error.to_string())?;
    let lost = || "the chat template does not write a user's words once, as they are".to_owned();
    let [before, after] = cut(&plain, USER).ok_or_else(lost)?;
    let both = template.render(&[message(Role::System, SYSTEM), user], tokenizer);
    let system = both.ok().and_then(|both| {
        let [first, rest] = cut(&both, SYSTEM)?;
        let [between, last] = cut(&rest, USER)?;
        Some([first, between, last])
    });
    Ok(Turn { plain: [before, after], system })
}

/// What stands before and after the only place of a word.
fn cut(text: &str, word: &str) -> Option<[String; 2]> {
    let (before, after) = text.split_once(word)?;
    (!after.contains(word)).then(|| [before.to_owned(), after.to_owned()])
}
