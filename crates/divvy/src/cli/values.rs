//! Words that a flag takes: forms of reports and exports, scorers.

use clap::ValueEnum;

/// A form of report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    #[value(help = "Markdown: verdict and tables")]
    Md,
    #[value(help = "one page with every row and its calls")]
    Html,
    #[value(help = "all figures, for programs")]
    Json,
    #[value(help = "every graded row, a line each")]
    Csv,
    #[value(help = "the same with typed columns, for pandas, DuckDB and others")]
    Parquet,
    #[value(help = "the table of arms, a line each")]
    CsvArms,
    #[value(help = "what became of every row, a line each, without a word of question or answer: to publish")]
    Outcomes,
    #[value(help = "the table of arms for a paper (booktabs)")]
    Latex,
    #[value(help = "a folder of logs that `inspect view` opens, one an arm")]
    Inspect,
}

/// Rules for what is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scorer {
    #[value(help = "the official metric of DROP: exact match and F1 over aligned spans")]
    Drop,
    #[value(help = "the number that is stated, exactly; several predictions are read as one text")]
    Numeric,
    #[value(help = "SQuAD's exact match against any gold, with token F1")]
    Exact,
    #[value(help = "the letter of an option, or its text where gold lists it")]
    Choice,
    #[value(help = "yes or no, true or false")]
    YesNo,
    #[value(help = "the paper's GSM8K scorer with its bugs: any word of the reply, decimals cut")]
    PaperGsm8k,
    #[value(help = "the paper's DROP scorer with its bugs: one gold, its first span")]
    PaperDrop,
    #[value(help = "the paper's Bamboogle scorer with its bugs: gold is a substring")]
    PaperBamboogle,
}

impl From<Scorer> for divvy_core::scorers::Scorer {
    fn from(scorer: Scorer) -> Self {
        match scorer {
            Scorer::Drop => Self::Drop,
            Scorer::Numeric => Self::Numeric,
            Scorer::Exact => Self::Exact,
            Scorer::Choice => Self::Choice,
            Scorer::YesNo => Self::YesNo,
            Scorer::PaperGsm8k => Self::PaperGsm8k,
            Scorer::PaperDrop => Self::PaperDrop,
            Scorer::PaperBamboogle => Self::PaperBamboogle,
        }
    }
}

/// How a student is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StudentForm {
    #[value(help = "the adapter, as PEFT and vLLM load it")]
    Peft,
    #[value(help = "base and adapter merged, with configuration and tokenizer, as transformers loads it")]
    Safetensors,
    #[value(help = "base and adapter merged, in one file, as llama.cpp loads it")]
    Gguf,
    #[value(help = "the adapter, as llama.cpp loads it beside a GGUF file of the base")]
    GgufLora,
    #[value(help = "the base as it was trained on, as safetensors: what the adapter belongs to")]
    Base,
    #[value(help = "the base as it was trained on, as a GGUF file")]
    BaseGguf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dtype {
    #[value(help = "exact for a base, rounded where an adapter is merged")]
    Bf16,
    #[value(help = "twice the size, and a merged adapter is not rounded")]
    F32,
}

/// Who serves an exported student.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServingEngine {
    #[value(help = "base and adapter as safetensors")]
    Vllm,
    #[value(name = "llama.cpp", help = "base and adapter as GGUF, for llama-server")]
    LlamaCpp,
    #[value(help = "the same and a Modelfile, with the chat template")]
    Ollama,
}

impl From<ServingEngine> for divvy_launch::engines::Engine {
    fn from(engine: ServingEngine) -> Self {
        match engine {
            ServingEngine::Vllm => Self::Vllm,
            ServingEngine::LlamaCpp => Self::LlamaCpp,
            ServingEngine::Ollama => Self::Ollama,
        }
    }
}

/// How exported rows are written. Each row also has its id, and in `divvy` where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RowForm {
    #[value(help = "prompt and completion as messages, as TRL reads them")]
    PromptCompletion,
    #[value(help = "one list of messages, as OpenAI's fine-tuning and TRL read it")]
    Messages,
    #[value(help = "conversations of from and value")]
    Sharegpt,
    #[value(help = "instruction, input, output")]
    Alpaca,
    #[value(help = "input_ids and labels of the student's base: nothing is left to a template")]
    Ids,
    #[value(help = "prompt, chosen, rejected: a kept and a failed decomposition of one question")]
    Preferences,
    #[value(help = "every form that there are rows for")]
    All,
}
