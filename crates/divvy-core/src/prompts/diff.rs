//! Two texts word by word: what is only in the first stands in `[-…-]`, what is only in the second in `{+…+}`.

/// Both texts in one. Equal texts give `None`.
#[must_use]
pub fn words(before: &str, after: &str) -> Option<String> {
    if before == after {
        return None;
    }
    let (before, after) = (pieces(before), pieces(after));
    let (mut text, mut gone, mut come) = (String::new(), String::new(), String::new());
    for change in changes(&before, &after) {
        match change {
            Change::Gone(piece) => gone.push_str(piece),
            Change::Come(piece) => come.push_str(piece),
            Change::Same(piece) => {
                flush(&mut text, &mut gone, &mut come);
                text.push_str(piece);
            }
        }
    }
    flush(&mut text, &mut gone, &mut come);
    Some(text)
}

fn flush(text: &mut String, gone: &mut String, come: &mut String) {
    for (piece, [open, close]) in [(gone, ["[-", "-]"]), (come, ["{+", "+}"])] {
        if !piece.is_empty() {
            text.extend([open, piece, close]);
            piece.clear();
        }
    }
}

/// Words, each stretch of blanks, and each line break by itself.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |bare| (bare, &line[bare.len()..]));
        pieces.extend(line.split_inclusive(' ').filter(|piece| !piece.is_empty()));
        pieces.extend((!end.is_empty()).then_some(end));
    }
    pieces
}

enum Change<'t> {
    Same(&'t str),
    Gone(&'t str),
    Come(&'t str),
}

/// By the longest common subsequence. Beyond the common beginning and end prompts are a few hundred words, so that a table
/// of both lengths is small.
fn changes<'t>(before: &[&'t str], after: &[&'t str]) -> Vec<Change<'t>> {
    let head = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let (old, new) = (&before[head..], &after[head..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[..old.len() - tail], &new[..new.len() - tail]);
    let mut all: Vec<Change<'t>> = before[..head].iter().map(|piece| Change::Same(piece)).collect();
    let longest = longest_common(old, new);
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            all.push(Change::Same(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && longest[i + 1][j] >= longest[i][j + 1]) {
            all.push(Change::Gone(old[i]));
            i += 1;
        } else {
            all.push(Change::Come(new[j]));
            j += 1;
        }
    }
    all.extend(before[before.len() - tail..].iter().map(|piece| Change::Same(piece)));
    all
}

/// Length of the longest common subsequence of what is left from each place on.
fn longest_common(old: &[&str], new: &[&str]) -> Vec<Vec<u32>> {
    let mut longest = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            longest[i][j] = match old[i] == new[j] {
                true => longest[i + 1][j + 1] + 1,
                false => longest[i + 1][j].max(longest[i][j + 1]),
            };
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_words_stand_in_the_text_that_stayed() {
        assert_eq!(words("a b c", "a b c"), None);
        assert_eq!(
            words("Answer the question.\nQ", "Answer this question.\nQ").unwrap(),
            "Answer [-the -]{+this +}question.\nQ"
        );
        assert_eq!(words("", "new").unwrap(), "{+new+}");
        assert_eq!(words("one two", "two").unwrap(), "[-one -]two");
        assert_eq!(words("one\n\ntwo", "one\ntwo").unwrap(), "one\n[-\n-]two");
    }

    proptest::proptest! {
        /// Without the marks and what came, it is the first text; without what went, the second.
        #[test]
        fn both_texts_are_in_it(before in "[ab \n]{0,20}", after in "[ab \n]{0,20}") {
            let all = changes(&pieces(&before), &pieces(&after));
            let side = |keep: fn(&Change<'_>) -> Option<String>| all.iter().filter_map(keep).collect::<String>();
            let old = side(|change| match change { Change::Same(p) | Change::Gone(p) => Some((*p).to_owned()), Change::Come(_) => None });
            let new = side(|change| match change { Change::Same(p) | Change::Come(p) => Some((*p).to_owned()), Change::Gone(_) => None });
            proptest::prop_assert_eq!((old, new), (before.clone(), after.clone()));
        }
    }
}
