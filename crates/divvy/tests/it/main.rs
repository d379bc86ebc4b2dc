//! The real program, end to end, against a scripted teacher on loopback: what a person types, what comes back, and that
//! nothing which was paid for is ever paid for again.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic; the lint spares only the tests themselves")]

mod bench; // a folder, a teacher, and the program run in it
mod forged; // many rows that nobody was asked for
mod school; // what the teacher knows

mod asking; // `divvy ask`, `init`, `--dry-run`: the small commands
mod batch_kill; // batches and SIGKILL: nothing is handed in twice
mod batch_limits; // batches and their limits: rows, bytes, tokens, money, time
mod batches; // many requests in one file
mod budget; // stopped at a cap
mod clock; // clocks that jump in the middle of a run; the minutes of a budget
mod costing; // what a report says of money, machine time and tries that failed
mod data_mistakes; // rows and splits that cannot be used
mod endpoint_mistakes; // endpoints that refuse
mod endpoints; // one model at several places
mod estimating; // what the rest of a run will take
mod exporting;
mod exporting_for; // training rows for other trainers
mod grading; // further scorers, a judge, programs that are run
mod grid; // several data sets, mixed students, sizes
mod kill; // SIGKILL and Ctrl-C, then the same command
#[cfg(unix)]
mod launching; // training that is handed over
mod listing; // `divvy data` and `divvy models`
mod looking; // `divvy calls`
#[cfg(unix)]
mod machines; // several workers on one server, and shards
mod model_mistakes; // files that are no models
mod passages; // questions that share one, in which order
mod pipeline; // collect, screen, evaluate, report, with faults in between
mod prompting; // prompts worded anew, demonstrations, caps, `divvy prompts`
#[cfg(unix)]
mod ray; // the same on a Ray cluster, or on one that looks like it
#[cfg(unix)]
mod ray_real; // the same on Ray itself
mod recipe_mistakes; // recipes that cannot be run
mod recipes; // those that come with divvy
mod redoing; // items put back on purpose
mod repeats; // several answers to each question
mod reporting; // every form of report, runs compared, the page in a browser
mod reuse; // another recipe on the same store pays for what is new
mod scoring; // anybody's predictions
mod screening; // which decompositions are kept
mod secure; // TLS with an authority of one's own, and proxies
mod seeds; // several seeds, learning rates and checkpoints of a student
mod served_runs; // `divvy serve --run`, and the runs that the page lists
mod serving; // `divvy serve`, its clients and its page
mod shots; // demonstrations before teachers, solvers and students
mod strategies; // one subquestion at a time: what is asked, in which order
mod structured; // decompositions as JSON by a schema
mod student; // a tiny model trained, interrupted, used and exported
mod submitting; // many workers, as a cluster is given them
mod torch; // the same recipe on PyTorch
mod tracing; // what a collector of traces hears of `divvy serve`
mod traffic; // what was asked of a service, as training questions
mod truth; // what was paid, and why each row was kept
mod tuning; // evaluation on dev rows
mod waves; // collected as far as the screening needs it
mod withheld; // replies that a filter emptied, and silence
