//! The one place that prints. stdout is data, stderr is talk. A closed pipe ends the program quietly.

use std::io::{self, IsTerminal, Write};

/// A mistake in how the program was called; exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Two runs of which it cannot be said whether one is worse; exit code 4.
#[derive(Debug)]
pub(crate) struct Unjudged(pub(crate) String);

impl std::fmt::Display for Unjudged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unjudged {}

/// Data, to stdout.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let written =
        out.write_all(text.as_bytes()).and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") });
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other,
    }
}

/// Talk, to stderr.
pub(crate) fn say(text: &str) {
    // Nobody can be told that stderr is gone.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether a person said yes. Where there is none, nobody did.
pub(crate) fn ask(question: &str) -> bool {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return false;
    }
    let mut answer = String::new();
    let asked = write!(io::stderr().lock(), "{question}").and_then(|()| io::stdin().read_line(&mut answer));
    asked.is_ok() && answer.trim().to_lowercase().starts_with('y')
}

pub(crate) fn say_error(error: &anyhow::Error) {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(&format!("\n  caused by: {cause}"));
        }
    }
    say(&text);
}
