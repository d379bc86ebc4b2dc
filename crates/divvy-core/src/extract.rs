//! The final answer of a reply: the text behind the last answer cue ("The answer is", "Answer:", `####`, `\boxed{}`), its
//! first line, cleaned of markup. Replies without a cue are read by fixed fallbacks, and [`Cue`] says which one held, so
//! that a scorer can refuse what it does not trust. Thoughts before a reply are passed over.

use crate::thoughts::without_thoughts;

/// Raised when the same reply would give another answer. Part of every solver prompt's identity. 2: thoughts are passed over.
/// 3: a heading or the first item of a list is no answer.
pub const VERSION: u32 = 3;

/// How an answer was found, strongest last cue first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cue {
    /// "The answer is …", "Answer: …", "The final answer to the question is …".
    AnswerIs,
    /// `#### 18`, GSM8K's own mark. Before anything but a number it is a Markdown heading.
    Hashes,
    /// `\boxed{18}`.
    Boxed,
    /// No cue; a short first line that stands by itself above an explanation.
    FirstLine,
    /// No cue; the reply is one line.
    OnlyLine,
    /// No cue; bold text in the last line.
    Bold,
    /// No cue; the last line of several.
    LastLine,
}

impl Cue {
    /// Whether the model itself marked this as its answer, so that even a reply cut by the token limit holds one.
    #[must_use]
    pub fn is_explicit(self) -> bool {
        matches!(self, Self::AnswerIs | Self::Hashes | Self::Boxed | Self::FirstLine)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extracted {
    /// One line, never blank.
    pub text: String,
    pub cue: Cue,
}

/// The answer of a reply, `None` when there is no text to take.
#[must_use]
pub fn final_answer(reply: &str) -> Option<Extracted> {
    let reply = without_thoughts(reply);
    match marked(reply) {
        Some((_, extracted)) => Some(extracted),
        None => without_cue(reply),
    }
}

/// The items of a list below the cue that marks the answer, each cleaned; `None` where its line holds the answer, or no list
/// follows it.
#[must_use]
pub fn listed_answer(reply: &str) -> Option<Vec<String>> {
    let reply = without_thoughts(reply);
    let (at, _) = marked(reply).filter(|(_, found)| found.cue == Cue::AnswerIs)?;
    let (_, below) = reply[at..].split_once('\n').filter(|(line, _)| !line.contains(char::is_alphanumeric))?;
    let lines = below.lines().map(str::trim).filter(|line| !line.is_empty());
    let items: Vec<String> = lines.map_while(item).map(clean).filter(|item| !item.is_empty()).collect();
    (!items.is_empty()).then_some(items)
}

/// What stands behind a bullet or a number with a full stop or bracket.
fn item(line: &str) -> Option<&str> {
    let digits = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let behind = match line.strip_prefix(['-', '*', '•', '–']) {
        Some(behind) => behind,
        None if digits.len() < line.len() => digits.strip_prefix(['.', ')'])?,
        None => return None,
    };
    behind.starts_with([' ', '\t']).then(|| behind.trim())
}

/// The last fenced block of a reply: where a program is asked for, that is the program. `None` where a fence is not closed,
/// since half a program is none.
#[must_use]
pub fn program(reply: &str) -> Option<&str> {
    let reply = without_thoughts(reply);
    let (before, _) = reply.rsplit_once("\n```").filter(|_| reply.matches("```").count().is_multiple_of(2))?;
    let (_, block) = before.rsplit_once("```")?;
    let (_language, program) = block.split_once('\n')?;
    (!program.trim().is_empty()).then_some(program)
}

/// What stands before the answer that a reply marks as its own, thoughts included; `None` where it marks none.
#[must_use]
pub fn before_answer(reply: &str) -> Option<&str> {
    let said = without_thoughts(reply);
    before(said).map(|before| &reply[..reply.len() - said.len() + before.len()])
}

fn before(reply: &str) -> Option<&str> {
    let (at, extracted) = marked(reply)?;
    let start = match extracted.cue {
        Cue::Hashes => reply[..at].trim_end_matches('#').len(),
        Cue::Boxed => reply[..at].rfind("\\boxed")?,
        _ => word_answer(reply, at)?,
    };
    // "The answer is: \boxed{8}": the first of two cues for one answer is where it begins.
    let only_markup = |from: usize| reply[from..start].chars().all(|c| c.is_whitespace() || MARKUP.contains(c));
    let outer = answer_cues(reply).into_iter().find(|from| *from <= start && only_markup(*from));
    Some(without_lead(&reply[..outer.and_then(|from| word_answer(reply, from)).unwrap_or(start)]))
}

/// Where the word "answer" of a cue begins whose text begins `at`.
fn word_answer(reply: &str, at: usize) -> Option<usize> {
    reply[..at].to_ascii_lowercase().rfind("answer")
}

const MARKUP: &str = "*$,\"(\\[_:#";

/// Without the words and the markup that lead up to an answer on its own line.
fn without_lead(text: &str) -> &str {
    let start = text.rfind('\n').map_or(0, |at| at + 1);
    let line = without_words(&text[start..]);
    if line.is_empty() { text[..start].trim_end() } else { &text[..start + line.len()] }
}

fn without_words(line: &str) -> &str {
    const WORDS: [&str; 8] = ["the", "final", "correct", "so", "therefore", "thus", "hence", "my"];
    // What closes a formula or bold text belongs to the text before.
    let opened = |mark: &str| line.matches(mark).count() % 2 == 1;
    let is_markup = |c: char| match c {
        '$' => opened("$"),
        '*' => opened("**"),
        c => c.is_whitespace() || MARKUP.contains(c),
    };
    let mut text = line;
    loop {
        let bare = text.trim_end_matches(is_markup);
        let word = bare.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        if !WORDS.iter().any(|lead| lead.eq_ignore_ascii_case(word)) {
            return bare;
        }
        text = &bare[..bare.len() - word.len()];
    }
}

/// The last cue of a kind that models use on purpose, and the offset of the text behind it.
fn marked(reply: &str) -> Option<(usize, Extracted)> {
    last_of(reply, answer_cues(reply), Cue::AnswerIs)
        .into_iter()
        .chain(last_of(reply, hash_cues(reply), Cue::Hashes))
        .chain(last_of(reply, boxed_cues(reply), Cue::Boxed))
        .max_by_key(|(position, _)| *position)
}

/// The last cue that has text behind it. Cues are byte offsets of that text.
fn last_of(reply: &str, cues: Vec<usize>, cue: Cue) -> Option<(usize, Extracted)> {
    cues.into_iter().rev().find_map(|at| {
        let rest = &reply[at..];
        let text = if cue == Cue::Boxed { clean(braced(rest)) } else { clean(first_line(rest)) };
        (!text.is_empty()).then_some((at, Extracted { text, cue }))
    })
}

/// Offsets behind "answer is", "answer:", "answer to the question is", …
fn answer_cues(reply: &str) -> Vec<usize> {
    let lower = reply.to_ascii_lowercase();
    lower
        .match_indices("answer")
        .filter(|(at, _)| !lower[..*at].ends_with(|c: char| c.is_alphanumeric()))
        .filter_map(|(at, word)| behind_answer(&lower, at + word.len()))
        .collect()
}

/// `at` lies behind the word "answer": the offset behind its copula or colon.
fn behind_answer(lower: &str, at: usize) -> Option<usize> {
    const LINKS: [&str; 7] = [":", "is", "are", "=", "would be", "will be", "should be"];
    let rest = &lower[at..];
    let rest = rest.strip_prefix('s').unwrap_or(rest);
    let start = rest.trim_start_matches(['*', '_', '"', ' ']);
    let offset = |text: &str| lower.len() - text.len();
    for link in LINKS {
        if let Some(tail) = start.strip_prefix(link).filter(|tail| link_ends(link, tail)) {
            return Some(offset(tail));
        }
    }
    if !["to ", "for "].iter().any(|word| start.starts_with(word)) {
        return None;
    }
    let line = start.split(['\n', '.', '?']).next().unwrap_or(start);
    let (end, length) = [" is", ":"].iter().filter_map(|link| Some((line.find(link)?, link.len()))).min()?;
    (!line[..end].contains("subquestion") && !line[..end].contains("step")).then(|| offset(&start[end + length..]))
}

/// "is" must end there: "answer isn't" and "answer issue" are no cues.
fn link_ends(link: &str, tail: &str) -> bool {
    link == ":" || link == "=" || !tail.starts_with(|c: char| c.is_alphanumeric() || c == '\'' || c == '’')
}

/// Offsets behind `####` that a number follows.
fn hash_cues(reply: &str) -> Vec<usize> {
    let numeric = |rest: &str| {
        let rest = rest.trim_start_matches(['#', ' ', '*', '$', '-']);
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.' || c == ',' || c == ')');
        let mark = &rest[..rest.len() - digits.len()];
        let heading = mark.ends_with(['.', ')'])
            && !digits.trim_matches([' ', '*']).starts_with(['\n', '\r'])
            && !digits.trim().is_empty();
        mark.contains(|c: char| c.is_ascii_digit()) && !heading
    };
    let behind = |at: usize| at + reply[at..].len() - reply[at..].trim_start_matches('#').len();
    reply.match_indices("####").map(|(at, _)| behind(at)).filter(|&at| numeric(&reply[at..])).collect()
}

fn boxed_cues(reply: &str) -> Vec<usize> {
    reply.match_indices("\\boxed{").map(|(at, mark)| at + mark.len()).collect()
}

/// Text up to the brace that closes the one opened before it.
fn braced(rest: &str) -> &str {
    let mut depth = 1;
    for (at, c) in rest.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &rest[..at];
        }
    }
    first_line(rest)
}

/// The first line that holds more than markup.
fn first_line(rest: &str) -> &str {
    rest.lines().find(|line| line.contains(char::is_alphanumeric)).unwrap_or("")
}

fn without_cue(reply: &str) -> Option<Extracted> {
    let lines: Vec<&str> = reply.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let (first, last) = (*lines.first()?, *lines.last()?);
    if !reply.contains(char::is_alphanumeric) {
        return None;
    }
    let found = |text: &str, cue| Extracted { text: clean(text), cue };
    let extracted = if lines.len() == 1 {
        found(first, if bold(first).is_some() { Cue::Bold } else { Cue::OnlyLine })
    } else if stands_alone(reply.trim_start(), first) {
        found(first, Cue::FirstLine)
    } else {
        found(last, if bold(last).is_some() { Cue::Bold } else { Cue::LastLine })
    };
    if is_dangling(last) && extracted.cue != Cue::FirstLine {
        return None;
    }
    let text = if extracted.cue == Cue::Bold { bold(last).map_or(extracted.text, clean) } else { extracted.text };
    (!text.is_empty()).then_some(Extracted { text, cue: extracted.cue })
}

/// A cue with nothing behind it.
fn is_dangling(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    let plain = lower.trim_end_matches(['*', ' ', ':', '_']);
    plain.ends_with("answer is") || plain.ends_with("answer")
}

/// A number alone on the first line, or at most six words and a blank line behind them.
fn stands_alone(reply: &str, first: &str) -> bool {
    let number = first.ends_with(|c: char| c.is_ascii_digit() || c == '%')
        && first.chars().all(|c| c.is_ascii_digit() || "$€£-.,%".contains(c));
    let listed = item(first).is_some()
        || first.starts_with(['#', '-', '*', '[', '\\'])
        || first.ends_with(['.', ':', '!', '?', ',', ')', '=', '*']);
    let blank_behind = reply.lines().nth(1).is_some_and(|line| line.trim().is_empty());
    number || (blank_behind && !listed && !is_heading(first) && first.split_whitespace().count() <= 6)
}

/// "Solution", "Step 1": what stands above an explanation and answers nothing.
fn is_heading(line: &str) -> bool {
    const HEADINGS: [&str; 12] = [
        "analysis",
        "answer",
        "calculation",
        "calculations",
        "explanation",
        "part",
        "question",
        "reasoning",
        "solution",
        "step",
        "subquestion",
        "working",
    ];
    let mut words = line.split_whitespace();
    let is_known = words.next().is_some_and(|word| HEADINGS.iter().any(|known| known.eq_ignore_ascii_case(word)));
    is_known && words.all(|word| word.trim_end_matches(['.', ')', ':']).chars().all(|c| c.is_ascii_digit()))
}

/// The last `**bold**` text of a line.
fn bold(line: &str) -> Option<&str> {
    let (head, _) = line.rsplit_once("**")?;
    let (_, inner) = head.rsplit_once("**")?;
    inner.contains(char::is_alphanumeric).then_some(inner)
}

/// One line without bold marks, quotes, brackets, LaTeX delimiters, a second sentence and the final full stop.
fn clean(line: &str) -> String {
    const PAIRS: [(&str, &str); 10] = [
        ("\"", "\""),
        ("“", "”"),
        ("'", "'"),
        ("`", "`"),
        ("$$", "$$"),
        ("$", "$"),
        ("\\(", "\\)"),
        ("\\[", "\\]"),
        ("[", "]"),
        ("<", ">"),
    ];
    let line = line.trim_start_matches([':', ' ', '\t', '_']).trim();
    let mut text = leading_bold(line).unwrap_or(first_sentence(line)).trim_matches(['*', ' ', '\t']);
    loop {
        let before = text;
        text = text.trim_end_matches(['.', ' ']).trim();
        for (open, close) in PAIRS {
            if let Some(inner) = text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close)) {
                text = inner.trim();
            }
        }
        if text == before {
            return text.to_owned();
        }
    }
}

/// `**James Madison**, who …` → `James Madison`.
fn leading_bold(line: &str) -> Option<&str> {
    let inner = line.strip_prefix("**")?.split_once("**")?.0;
    inner.contains(char::is_alphanumeric).then_some(inner)
}

/// Up to a full stop that ends a sentence: behind a number or a word of five letters or more (shorter ones are mostly
/// abbreviations: "Mt. Everest", "J. K. Rowling"), with a capital next.
fn first_sentence(line: &str) -> &str {
    for (at, _) in line.match_indices(". ") {
        let word = line[..at].rsplit(char::is_whitespace).next().unwrap_or("");
        let ends =
            word.chars().filter(|c| c.is_alphabetic()).count() >= 5 || word.contains(|c: char| c.is_ascii_digit());
        if ends && line[at + 2..].trim_start().starts_with(char::is_uppercase) {
            return &line[..at];
        }
    }
    line
}

#[cfg(test)]
mod tests;
