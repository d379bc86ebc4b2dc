//! The scripted teacher as a program, for tests of the real binary: `teacher [PORT [SCRIPT.jsonl [LATENCY_MS]]]`.
//! It prints its URL, then a line for every request: the number of completions that went out whole so far and the
//! request's body. It answers what it hears, after the script is used up, and serves until it is killed.

use std::{io::Write, time::Duration};

use divvy_testkit::{
    script::Step,
    teacher::{Lesson, Teacher},
};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().map_or(0, |port| port.parse().expect("PORT is a number"));
    let script = arguments.next().map_or_else(Vec::new, |path| read_script(&path));
    let latency = arguments.next().map_or(0, |ms| ms.parse().expect("LATENCY_MS is a number"));
    let lesson = Lesson { port, script, latency: Duration::from_millis(latency), ..Lesson::default() };
    let teacher = Teacher::start(lesson).await?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", teacher.url())?;
    let mut seen = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        for asked in teacher.asked().iter().skip(seen) {
            writeln!(out, "{} {}", teacher.answered(), asked.body)?;
            seen += 1;
        }
        out.flush()?;
    }
}

fn read_script(path: &str) -> Vec<Step> {
    let text = std::fs::read_to_string(path).expect("the script is readable");
    let step = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{path}: `{line}`: {error}"));
    text.lines().filter(|line| !line.trim().is_empty()).map(step).collect()
}
