//! A student for engines that serve it: the commands that start them, the file that Ollama reads, and the lines of a recipe
//! with which divvy asks them. Whoever calls has written the weights.
//!
//! ```text
//! vllm serve /out/base --enable-lora --max-lora-rank 16 --lora-modules sd-r=/out/adapter
//! llama-server -m /out/base-bf16.gguf --lora /out/sd-r-lora.gguf --alias sd-r --jinja
//! ollama create sd-r -f /out/Modelfile
//! ```

use serde_json::json;

use crate::words::line;

/// Who serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Vllm,
    LlamaCpp,
    Ollama,
}

/// What is handed over; paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// What it is asked under.
    pub name: String,
    /// Of the base, or of the whole model.
    pub weights: String,
    /// Path and rank, unless all weights were trained.
    pub adapter: Option<(String, usize)>,
    /// Of the file that Ollama reads.
    pub modelfile: String,
}

impl Engine {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::LlamaCpp => "llama.cpp",
            Self::Ollama => "ollama",
        }
    }

    /// Where it listens when nothing else is said.
    fn url(self) -> &'static str {
        match self {
            Self::Vllm => "http://localhost:8000/v1",
            Self::LlamaCpp => "http://localhost:8080/v1",
            Self::Ollama => "http://localhost:11434/v1",
        }
    }

    /// A name that it takes; what stands before `:` or `/` means something else to Ollama.
    #[must_use]
    pub fn model_name(self, student: &str) -> String {
        let kept = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        student.chars().map(|letter| if kept(letter) { letter } else { '-' }).collect()
    }
}

/// Why an engine cannot have it, before anything is written.
///
/// # Errors
/// The reason, and the way out.
pub fn check(engine: Engine, served: &Served) -> Result<(), String> {
    let Some((path, rank)) = &served.adapter else { return Ok(()) };
    match engine {
        Engine::Vllm if max_rank(*rank).is_none() => {
            Err(format!("vLLM takes adapters up to rank 512, this one has {rank}; use --format safetensors"))
        }
        Engine::LlamaCpp if path.contains(',') => {
            Err(format!("llama-server ends an adapter's path at a comma: `{path}`; choose another --out"))
        }
        _ => Ok(()),
    }
}

/// vLLM takes these limits only.
fn max_rank(rank: usize) -> Option<usize> {
    [8, 16, 32, 64, 128, 256, 320, 512].into_iter().find(|&limit| limit >= rank)
}

/// A script for a POSIX shell that starts it; another way stands in a comment.
#[must_use]
pub fn script(engine: Engine, served: &Served) -> String {
    let mut script = format!("{}\n", line(&command(engine, served)));
    if let (Engine::Vllm, Some((path, _))) = (engine, &served.adapter) {
        let body = json!({ "lora_name": served.name, "lora_path": path }).to_string();
        let url = format!("{}/load_lora_adapter", engine.url());
        let words = ["curl", &url, "-H", "Content-Type: application/json", "-d", &body].map(str::to_owned);
        script += "# Or into a server of this base that runs, with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment:\n";
        script += &format!("# {}\n", line(&words));
    }
    script
}

fn command(engine: Engine, served: &Served) -> Vec<String> {
    let Served { name, weights, adapter, modelfile } = served;
    let mut words: Vec<&str> = match engine {
        Engine::Vllm => vec!["vllm", "serve", weights],
        Engine::LlamaCpp => vec!["llama-server", "-m", weights],
        Engine::Ollama => vec!["ollama", "create", name, "-f", modelfile],
    };
    let (rank, module) = match adapter {
        Some((path, rank)) => (max_rank(*rank).unwrap_or(*rank).to_string(), format!("{name}={path}")),
        None => Default::default(),
    };
    match (engine, adapter) {
        (Engine::Vllm, Some(_)) => {
            words.extend(["--enable-lora", "--max-lora-rank", &rank, "--lora-modules", &module]);
        }
        (Engine::Vllm, None) => words.extend(["--served-model-name", name]),
        (Engine::LlamaCpp, Some((path, _))) => words.extend(["--lora", path]),
        (Engine::LlamaCpp, None) | (Engine::Ollama, _) => {}
    }
    if engine == Engine::LlamaCpp {
        words.extend(["--alias", name, "--jinja"]);
    }
    words.into_iter().map(str::to_owned).collect()
}

/// What a recipe says of it: a model beside the student that it was, under a name of its own.
#[must_use]
pub fn recipe_lines(engine: Engine, name: &str) -> String {
    let table = format!("{name}-{}", engine.name().replace('.', "-"));
    let table = if table.contains('.') { format!("\"{table}\"") } else { table };
    format!("[models.{table}]\nsource = \"{}\"\nmodel = \"{name}\"\n", engine.url())
}

/// What stands around the texts of one exchange, as the base's own template writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Before and after the user's words, where there is no system message.
    pub plain: [String; 2],
    /// Before the system's words, between them and the user's, after those; `None` where the template has no place for it.
    pub system: Option<[String; 3]>,
}

/// What Ollama reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modelfile<'a> {
    /// Names of files beside it.
    pub weights: &'a str,
    pub adapter: Option<&'a str>,
    pub turn: &'a Turn,
    /// What ends a reply.
    pub stops: &'a [String],
    pub context: usize,
}

impl Modelfile<'_> {
    /// # Errors
    /// A text that would be read as a part of Ollama's own notation.
    pub fn text(&self) -> Result<String, String> {
        let Turn { plain, system } = self.turn;
        let around = plain.iter().chain(system.iter().flatten()).chain(self.stops);
        if let Some(text) = around.into_iter().find(|text| text.contains("{{") || text.contains('"')) {
            return Err(format!("Ollama's template has no form for `{}`", text.escape_debug()));
        }
        let mut file = format!("FROM ./{}\n", self.weights);
        file.extend(self.adapter.map(|adapter| format!("ADAPTER ./{adapter}\n")));
        file += &format!("TEMPLATE \"\"\"{}\"\"\"\n", template(self.turn));
        file.extend(self.stops.iter().map(|stop| format!("PARAMETER stop \"{stop}\"\n")));
        // Its defaults sample, punish repetition and cut what is longer than 4096 tokens.
        file += &format!("PARAMETER num_ctx {}\nPARAMETER temperature 0\nPARAMETER repeat_penalty 1\n", self.context);
        Ok(file)
    }
}

fn template(turn: &Turn) -> String {
    let [before, after] = &turn.plain;
    let Some([first, between, last]) = &turn.system else {
        return format!("{before}{{{{ .Prompt }}}}{after}{{{{ .Response }}}}");
    };
    let with = format!("{first}{{{{ .System }}}}{between}{{{{ .Prompt }}}}{last}");
    let without = format!("{before}{{{{ .Prompt }}}}{after}");
    format!("{{{{ if .System }}}}{with}{{{{ else }}}}{without}{{{{ end }}}}{{{{ .Response }}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(folder: &str, rank: Option<usize>) -> Served {
        Served {
            name: "sd-r".into(),
            weights: format!("{folder}/base"),
            adapter: rank.map(|rank| (format!("{folder}/adapter"), rank)),
            modelfile: format!("{folder}/Modelfile"),
        }
    }

    #[test]
    fn a_path_is_one_word_for_a_shell() {
        let odd = served("/it's $HOME", Some(24));
        assert_eq!(
            script(Engine::Vllm, &odd).lines().next().unwrap(),
            r"vllm serve '/it'\''s $HOME/base' --enable-lora --max-lora-rank 32 --lora-modules 'sd-r=/it'\''s $HOME/adapter'"
        );
        assert!(script(Engine::Vllm, &odd).ends_with(
            r#"-d '{"lora_name":"sd-r","lora_path":"/it'\''s $HOME/adapter"}'
"#
        ));
        assert_eq!(script(Engine::Ollama, &odd), "ollama create sd-r -f '/it'\\''s $HOME/Modelfile'\n");
    }

    #[test]
    fn whole_models_have_no_adapter() {
        let whole = served("/o", None);
        assert_eq!(script(Engine::Vllm, &whole), "vllm serve /o/base --served-model-name sd-r\n");
        assert_eq!(script(Engine::LlamaCpp, &whole), "llama-server -m /o/base --alias sd-r --jinja\n");
    }

    #[test]
    fn what_an_engine_cannot_do_is_refused() {
        assert!(check(Engine::Vllm, &served("/o", Some(512))).is_ok());
        assert!(check(Engine::Vllm, &served("/o", Some(513))).unwrap_err().contains("rank 512"));
        assert!(check(Engine::LlamaCpp, &served("/a,b", Some(8))).unwrap_err().contains("comma"));
        assert!(check(Engine::LlamaCpp, &served("/a,b", None)).is_ok());
    }

    #[test]
    fn a_template_without_a_place_for_the_system_has_one_branch() {
        let turn = Turn { plain: ["<s>[U]".into(), "[/U]".into()], system: None };
        let file = Modelfile { weights: "m.gguf", adapter: None, turn: &turn, stops: &["</s>".into()], context: 2048 };
        assert_eq!(
            file.text().unwrap(),
            "FROM ./m.gguf\nTEMPLATE \"\"\"<s>[U]{{ .Prompt }}[/U]{{ .Response }}\"\"\"\nPARAMETER stop \"</s>\"\n\
             PARAMETER num_ctx 2048\nPARAMETER temperature 0\nPARAMETER repeat_penalty 1\n"
        );
        let braces = Turn { plain: ["{{ ".into(), String::new()], system: None };
        assert!(Modelfile { turn: &braces, ..file }.text().unwrap_err().contains("{{"));
    }

    #[test]
    fn names_are_those_that_each_reads() {
        assert_eq!(Engine::Ollama.model_name("sd-r/400:x"), "sd-r-400-x");
        assert_eq!(
            recipe_lines(Engine::LlamaCpp, "sd.r"),
            "[models.\"sd.r-llama-cpp\"]\nsource = \"http://localhost:8080/v1\"\nmodel = \"sd.r\"\n"
        );
    }
}
