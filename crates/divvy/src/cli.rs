//! The command line, flag for flag. What the flags mean is decided in `commands`.

mod place;
mod values;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use divvy_flow::shard::Shard;

pub(crate) use self::{
    place::{Place, RECIPE, Traffic},
    values::{Dtype, Format, RowForm, Scorer, ServingEngine, StudentForm},
};

/// Which part of an LLM's reasoning can a small model of yours take over? Measure it on your task.
#[derive(Debug, Parser)]
#[command(name = "divvy", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Log what happens inside (or set DIVVY_LOG to a tracing filter)
    #[arg(long, short, global = true)]
    pub verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a commented recipe to start from
    #[command(after_help = "Examples:\n  divvy init\n  divvy init my-task.toml")]
    Init {
        /// Where to write it
        #[arg(default_value = "divvy.toml")]
        path: PathBuf,
    },
    /// Run all stages of a recipe: collect, screen, train, evaluate, report. Resumes where it stopped
    #[command(
        after_help = "Examples:\n  divvy run recipes/quickstart.toml\n  divvy run recipes/quickstart.toml --dry-run\n  divvy run recipes/quickstart.toml --estimate\n  divvy run recipes/gsm8k.toml --data ~/data"
    )]
    Run {
        #[command(flatten)]
        place: Place,
        /// Show the resolved plan, the calls and an estimate of tokens, money and time, and stop
        #[arg(long)]
        dry_run: bool,
        /// Ask so many rows of every stage (20), keep them, and show what the rest will take: calls, tokens, money and time,
        /// each with its interval, against the caps of the recipe's budget
        #[arg(
            long,
            value_name = "ROWS",
            num_args = 0..=1,
            require_equals = true,
            default_missing_value = "20",
            value_parser = clap::value_parser!(u32).range(2..),
            conflicts_with = "dry_run"
        )]
        estimate: Option<u32>,
        /// With --estimate: print JSON for programs
        #[arg(long, requires = "estimate")]
        json: bool,
    },
    /// Collect the teacher's decompositions
    #[command(
        after_help = "Examples:\n  divvy collect recipes/quickstart.toml\n  divvy collect my-task.toml --from traffic\n\nWhat was asked of `divvy serve --record` has no gold answers: screen it by `agreement`. It is another\nplan; later stages take the same --from."
    )]
    Collect {
        #[command(flatten)]
        place: Place,
        /// Work on a share of the questions only: 2/5 is the second of five, chosen by their ids
        #[arg(long, value_name = "NUMBER/OF")]
        shard: Option<Shard>,
    },
    /// Screen the collected decompositions with the solver (collects first what is missing)
    #[command(after_help = "Example:\n  divvy screen recipes/quickstart.toml")]
    Screen {
        #[command(flatten)]
        place: Place,
        /// Work on a share of the questions only: 2/5 is the second of five, chosen by their ids
        #[arg(long, value_name = "NUMBER/OF")]
        shard: Option<Shard>,
    },
    /// Train the students (collects and screens first what is missing)
    #[command(after_help = "Example:\n  divvy train recipes/quickstart.toml")]
    Train {
        #[command(flatten)]
        place: Place,
    },
    /// Evaluate every arm (trains first what is missing)
    #[command(after_help = "Example:\n  divvy eval recipes/quickstart.toml")]
    Eval {
        #[command(flatten)]
        place: Place,
        /// Work on a share of the questions only: 2/5 is the second of five, chosen by their ids
        #[arg(long, value_name = "NUMBER/OF")]
        shard: Option<Shard>,
    },
    /// Print the results of a recipe, finished or not, or write them in other forms; compare two runs
    #[command(
        after_help = "Examples:\n  divvy report recipes/quickstart.toml\n  divvy report recipes/quickstart.toml --html report.html\n  divvy report --run 3 --format csv > rows.csv\n  divvy report my-task.toml --format html,parquet,latex,inspect --out report/\n  divvy report --compare 3 5 --fail-on-regression\n\nWith --compare the exit status is 0 where nothing is shown to be worse, and with --fail-on-regression\n1 where an arm is and 4 where one cannot be judged: docs/reports.md."
    )]
    Report {
        #[command(flatten)]
        place: Place,
        /// Report on a run of the store, without the recipe's file: its id, or the first digits of its plan
        #[arg(long, value_name = "RUN", conflicts_with_all = ["recipe", "data", "from"])]
        run: Option<String>,
        /// In which form; may be given several times, or as a list with commas
        #[arg(long = "format", value_name = "FORM", value_delimiter = ',')]
        formats: Vec<Format>,
        /// Where to write: a file, or a folder for several forms; without --format its ending tells the form
        #[arg(long, value_name = "PATH")]
        out: Option<PathBuf>,
        /// Print JSON for programs
        #[arg(long, conflicts_with_all = ["formats", "out"])]
        json: bool,
        /// Also write one self-contained HTML page with every row; a large one has its rows in a folder beside it
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
        /// Compare two runs of the store, or two recipes, on the same questions: what is worse, what is better, which rows
        /// flipped
        #[arg(
            long,
            num_args = 2,
            value_names = ["BEFORE", "AFTER"],
            conflicts_with_all = ["recipe", "run", "html"]
        )]
        compare: Option<Vec<String>>,
        /// With --compare: end with status 1 if an arm is shown to be worse
        #[arg(long)]
        fail_on_regression: bool,
    },
    /// Answer one question with an arm of a recipe
    #[command(
        after_help = "Examples:\n  divvy ask \"Ann has 3 boxes of 12 pens and gives 7 away. How many are left?\" --recipe recipes/quickstart.toml\n  divvy ask \"…\" --arm cot/qwen --recipe recipes/quickstart.toml --json"
    )]
    Ask {
        question: String,
        /// A passage that the question is about
        #[arg(long)]
        premise: Option<String>,
        /// The arm, as `divvy report` names it [default: the first two-stage arm with a student, else the last arm]
        #[arg(long)]
        arm: Option<String>,
        /// The recipe
        #[arg(long, default_value = "divvy.toml")]
        recipe: PathBuf,
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        #[arg(long, value_name = "DIR|URL", env = "DIVVY_STORE", hide_env_values = true)]
        store: Option<PathBuf>,
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Serve the arms of a recipe as models of an OpenAI-compatible endpoint, with a page to ask and compare on
    #[command(
        after_help = "Examples:\n  divvy serve recipes/quickstart.toml\n  divvy serve --run 3 --arm two-stage/sd-t/qwen-1.5b\n  divvy serve my-task.toml --listen 0.0.0.0:8787 --keys keys.toml\n  divvy serve my-task.toml --record\n  divvy serve --new-key team-a\n\nA client sets base_url to http://127.0.0.1:8787/v1 and model to an arm, as `divvy report` names it.\nOne key without limits may also stand in DIVVY_SERVE_KEY. The recipe's [serve] chooses arms,\nconcurrency, queue, deadline and fallback; docs/serving.md has the rest."
    )]
    Serve {
        #[command(flatten)]
        place: Place,
        /// Serve what a run of the store measured, without the recipe's file: its id, or the first digits of its plan
        #[arg(long, value_name = "RUN", conflicts_with_all = ["recipe", "data", "from"])]
        run: Option<String>,
        /// An arm to serve, as `divvy report` names it; may be given several times [default: the recipe's, or all]
        #[arg(long = "arm", value_name = "ARM")]
        arms: Vec<String>,
        /// Where to listen; port 0 takes a free one
        #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8787")]
        listen: std::net::SocketAddr,
        /// API keys with their limits, hashed; without any, everybody may ask
        #[arg(long, value_name = "FILE")]
        keys: Option<PathBuf>,
        /// Keep every answered question in the store's folder, or in this JSON Lines file: the next training set, see --from
        #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
        record: Option<Option<PathBuf>>,
        /// Refuse request fields that have no effect, instead of naming them in the header divvy-ignored
        #[arg(long)]
        strict: bool,
        /// A name by which clients call this server, where no key is asked for; addresses and localhost are known
        #[arg(long = "allow-host", value_name = "NAME")]
        hosts: Vec<String>,
        /// Make an API key, print it with its lines for the keys file, and stop
        #[arg(long, value_name = "NAME")]
        new_key: Option<String>,
    },
    /// Write a trained student as other programs load it (an adapter, merged weights, GGUF), or its training rows
    #[command(
        after_help = "Examples:\n  divvy export recipes/quickstart.toml --student sd-r --out sd-r-adapter\n  divvy export recipes/quickstart.toml --student sd-r --format safetensors --out sd-r\n  divvy export recipes/quickstart.toml --student sd-r --format gguf --out sd-r-gguf\n  divvy export recipes/quickstart.toml --student sd-r --for vllm --out sd-r-vllm\n  divvy export recipes/quickstart.toml --student sd-r --rows messages --out sd-r.jsonl\n  divvy export my-task.toml --student sd-r --rows preferences --out pairs.parquet\n  divvy export my-task.toml --student sd-r --rows messages,ids,preferences --parquet --out rows/"
    )]
    Export {
        #[command(flatten)]
        place: Place,
        /// Name under the recipe's students table
        #[arg(long)]
        student: String,
        /// What is written [default: peft, or safetensors where all weights were trained]
        #[arg(long, conflicts_with = "rows")]
        format: Option<StudentForm>,
        /// How matrices are stored, where weights are written
        #[arg(long, default_value = "bf16", conflicts_with = "rows")]
        dtype: Dtype,
        /// What this program needs to serve the student; prints the commands that start it
        #[arg(long = "for", value_name = "ENGINE", conflicts_with_all = ["format", "rows"])]
        engine: Option<ServingEngine>,
        /// The rows that the student learns from, in this form, instead of the student; several forms with commas between them
        #[arg(long, value_name = "FORM", value_delimiter = ',')]
        rows: Vec<RowForm>,
        /// Rows in a folder as Parquet files; without, they are JSONL
        #[arg(long, requires = "rows")]
        parquet: bool,
        /// Folder to write; with one form of --rows a .jsonl or .parquet file
        #[arg(long, value_name = "PATH")]
        out: PathBuf,
    },
    /// What every stage of a recipe has done, rejected, failed and left, and what was paid; with --rows item by item
    #[command(
        after_help = "Examples:\n  divvy status recipes/quickstart.toml\n  divvy status recipes/quickstart.toml --json\n  divvy status recipes/quickstart.toml --rows --where state=rejected\n  divvy status my-task.toml --rows --where stage=screen --json\n\nA line of --rows: stage, question, sample, arm, state and reason, what its calls took, why, and the first digits\nof their keys, which `divvy calls` shows whole."
    )]
    Status {
        #[command(flatten)]
        place: Place,
        /// List every item on record: its state and reason, what its calls took, and their keys
        #[arg(long)]
        rows: bool,
        /// With --rows: which; reason=…, stage=collect|screen|evaluate|judge, state=rejected|failed|done|pending, question=ID;
        /// all that are given must hold
        #[arg(long = "where", value_name = "KEY=VALUE", requires = "rows")]
        conditions: Vec<String>,
        /// Print JSON for programs; with --rows JSON Lines
        #[arg(long)]
        json: bool,
    },
    /// Start many workers on one run: a script for Slurm, a manifest for Kubernetes, or jobs of a Ray cluster
    #[command(
        after_help = "Examples:\n  divvy submit my-task.toml --workers 8 --slurm --option=--partition=cpu --out job.sbatch\n  divvy submit my-task.toml --workers 8 --kubernetes --image registry/divvy --out job.json\n  divvy submit my-task.toml --workers 8 --ray http://head:8265 --follow\n  divvy submit my-task.toml --ray http://head:8265 --status\n  divvy submit --ray http://head:8265 -- collect my-task.toml --shards 8\n\nThe workers share a store on a server (docs/several-machines.md). Keys are in none of it: only the names of\nthe variables that hold them."
    )]
    Submit {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        asked: crate::commands::submit::Asked,
    },
    /// List the runs of a store, newest first
    #[command(after_help = "Examples:\n  divvy runs\n  divvy runs --json")]
    Runs {
        #[arg(long, value_name = "DIR|URL", env = "DIVVY_STORE", hide_env_values = true)]
        store: Option<PathBuf>,
        /// Print JSON Lines for programs
        #[arg(long)]
        json: bool,
    },
    /// Put items of collecting and screening back, so that the next run asks for them anew
    #[command(
        after_help = "Examples:\n  divvy redo recipes/quickstart.toml --where reason=truncated\n  divvy redo my-task.toml --where stage=collect --where reason=malformed\n  divvy redo my-task.toml --where question=rows/train/17"
    )]
    Redo {
        #[command(flatten)]
        place: Place,
        /// Which: reason=…, stage=collect|screen, state=rejected|failed|done, question=ID; all that are given must hold
        #[arg(long = "where", value_name = "KEY=VALUE", required = true)]
        conditions: Vec<String>,
        /// Tokens that each may write this time, in place of the recipe's max_tokens: for what was cut off
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        max_tokens: Option<u32>,
    },
    /// List the last calls to models, or show one: request, reply, attempts
    #[command(
        after_help = "Examples:\n  divvy calls\n  divvy calls --model qwen-1.5b --last 5 --json\n  divvy calls --finish length --since 24h\n  divvy calls 3fa9c1\n  divvy calls --failed"
    )]
    Calls {
        /// First digits of a call's key: that one is shown whole
        key: Option<String>,
        /// Those to one model of the recipe
        #[arg(long)]
        model: Option<String>,
        /// Those whose reply ended so: stop, length, or a provider's own word
        #[arg(long, value_name = "REASON")]
        finish: Option<String>,
        /// Those of the last 90m, 24h, 7d
        #[arg(long, value_name = "TIME", value_parser = crate::commands::ago)]
        since: Option<std::time::Duration>,
        /// How many
        #[arg(long, default_value_t = 20)]
        last: u32,
        /// Attempts that came to nothing, and what the endpoint said; with KEY or --since, of these
        #[arg(long, conflicts_with_all = ["model", "finish"])]
        failed: bool,
        #[arg(long, value_name = "DIR|URL", env = "DIVVY_STORE", hide_env_values = true)]
        store: Option<PathBuf>,
        /// Print JSON Lines for programs
        #[arg(long)]
        json: bool,
    },
    /// Score predictions of any program against gold answers: JSON Lines in, the same lines with `em` and `f1` out
    #[command(
        after_help = "Examples:\n  divvy score --scorer drop --predictions predictions.jsonl > scored.jsonl\n  divvy score --compare numeric paper-gsm8k --predictions predictions.jsonl > disagreements.jsonl\n\nA line is {\"predicted\": [\"4\", \"7\"], \"golds\": [[\"4\", \"7\"], [\"four\"]]}: the spans that were predicted, and every set of\nspans that is right. `drop` takes spans; every other scorer reads a whole reply, so give it as one text. Other keys are\npassed through."
    )]
    Score {
        /// By which rules
        #[arg(long, required_unless_present = "compare")]
        scorer: Option<Scorer>,
        /// By which two rules; only lines on which they disagree come out, with the `scores` of both
        #[arg(long, num_args = 2, value_names = ["SCORER", "SCORER"], conflicts_with = "scorer")]
        compare: Option<Vec<Scorer>>,
        /// A JSON Lines file
        #[arg(long, value_name = "FILE")]
        predictions: PathBuf,
    },
    /// List the data sets, or preview one
    #[command(
        after_help = "Examples:\n  divvy data\n  divvy data synth --rows 3\n  divvy data gsm8k --file train_socratic.jsonl --json\n  divvy data my-task.toml --rows 2"
    )]
    Data {
        /// The data set to preview, or a recipe, of which each split is shown
        #[arg(value_name = "DATASET|RECIPE.toml")]
        dataset: Option<String>,
        /// For a recipe: folder that its data files are relative to [default: the recipe's own]
        #[arg(long = "data", value_name = "DIR")]
        folder: Option<PathBuf>,
        /// Its files
        #[arg(long = "file", value_name = "FILE")]
        files: Vec<PathBuf>,
        /// For a recipe that reads traffic: folder of the store
        #[arg(long, value_name = "DIR|URL", env = "DIVVY_STORE", hide_env_values = true)]
        store: Option<PathBuf>,
        /// Questions to show
        #[arg(long, default_value_t = 5)]
        rows: usize,
        /// For synth
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Print JSON Lines for programs
        #[arg(long)]
        json: bool,
    },
    /// List the prompts of a recipe, show what a model really receives, or how two prompts differ
    #[command(
        after_help = "Examples:\n  divvy prompts recipes/quickstart.toml\n  divvy prompts recipes/quickstart.toml --show two-stage --model smollm2\n  divvy prompts my-task.toml --question rows/test/17\n  divvy prompts my-task.toml --diff cot\n  divvy prompts my-task.toml --diff direct cot+shots=4\n  divvy prompts my-task.toml --diff cot cot+prompt=terse\n\nA recipe words a prompt anew with [prompts.NAME] template = \"…\" (and system); --show explains its\nplaceholders. \"cot+shots=4\", \"two-stage+max=3\" or \"cot+prompt=terse\" among its strategies shows\ndemonstrations, caps the subquestions or asks in the words of [prompts.cot.variants.terse]."
    )]
    Prompts {
        #[command(flatten)]
        place: Place,
        /// This prompt as a model receives it, for a question of the recipe
        #[arg(long, value_name = "NAME")]
        show: Option<String>,
        /// For this question [default: the first that is scored]; without --show, every prompt that is asked
        #[arg(long, value_name = "ID")]
        question: Option<String>,
        /// Also the text that this local model reads, after its chat template
        #[arg(long, value_name = "MODEL", conflicts_with = "diff")]
        model: Option<String>,
        /// How two prompts differ, word by word; with one name, how the recipe's wording differs from the built-in one
        #[arg(long, value_names = ["A", "B"], num_args = 1..=2, conflicts_with = "show")]
        diff: Vec<String>,
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// List known and cached models, or fetch one
    #[command(
        after_help = "Examples:\n  divvy models\n  divvy models fetch smollm2-135m\n  divvy models fetch hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:qwen2.5-0.5b-instruct-q4_k_m.gguf"
    )]
    Models {
        #[command(subcommand)]
        action: Option<ModelsAction>,
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsAction {
    /// List known and cached models
    List,
    /// Download a model, check its hash, keep it in the cache
    Fetch {
        /// A name from `divvy models`, or a source
        model: String,
        /// Expected SHA-256 of the file
        #[arg(long)]
        sha256: Option<String>,
    },
}
