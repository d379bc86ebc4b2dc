//! The table of arms for a paper: `booktabs`, a line an arm, intervals in parentheses. `\input` it.

use divvy_core::{
    recipe::EvalSplit,
    results::{ArmResult, Results},
};

use crate::{number, tables::answers};

/// A `table` for each data set that needs `\usepackage{booktabs}` and nothing else, whatever the engine.
#[must_use]
pub fn latex(results: &Results) -> String {
    if results.by_dataset.is_empty() {
        return table(results, &results.name, "");
    }
    let sets = results.by_data_set().into_iter().zip(1..);
    sets.map(|((set, one), at)| table(&one, &format!("{}, {set}", results.name), &format!("-{at}"))).collect()
}

fn table(results: &Results, title: &str, label: &str) -> String {
    let money = results.arms.iter().any(|arm| arm.cost_nanos.is_some());
    let rows: String = results.arms.iter().map(|arm| row(arm, money)).collect();
    let plan: String = results.plan.chars().filter(char::is_ascii_hexdigit).take(12).collect();
    let rows_of = if results.split == EvalSplit::Dev {
        "accuracy on the same dev questions"
    } else {
        "accuracy on the same questions"
    };
    let (columns, cost) = if money { ("lrrrrr", " & \\$ / 1,000") } else { ("lrrrr", "") };
    format!(
        "% divvy {}, plan {plan}. Needs \\usepackage{{booktabs}}.\n\
         \\begin{{table}}\n  \\centering\n  \\caption{{{}: {rows_of}, with 95\\,\\% intervals; tokens are means per question.}}\n  \
         \\label{{tab:divvy-{plan}{label}}}\n  \\begin{{tabular}}{{{columns}}}\n    \\toprule\n    \
         Arm & $n$ & Accuracy (\\%) & Tokens in & Tokens out{cost} \\\\\n    \\midrule\n{rows}    \\bottomrule\n  \
         \\end{{tabular}}\n\\end{{table}}\n",
        escape(&results.divvy_version),
        escape(title),
    )
}

fn row(arm: &ArmResult, money: bool) -> String {
    let accuracy = match arm.n {
        0 => "--".to_owned(),
        _ => format!("{} ({})", number::percent(arm.accuracy), number::percent_interval(arm.ci)),
    };
    let cost =
        if money { format!(" & {}", number::dollars_per_thousand(arm.cost_nanos, arm.n)) } else { String::new() };
    let line = format!(
        "{} & {} & {accuracy} & {} & {}{cost}",
        escape(&arm.arm),
        answers(arm).text.replace('×', r"$\times$"),
        tokens(arm.tokens_in, arm.n),
        tokens(arm.tokens_out, arm.n),
    );
    // What stands for "none" and "to" in our figures.
    format!("    {} \\\\\n", line.replace('–', "--").replace('−', "$-$"))
}

fn tokens(total: Option<u64>, n: u64) -> String {
    total.map_or_else(|| number::DASH.to_owned(), |total| number::mean(total, n))
}

/// Text that TeX takes as text. What its fonts may lack becomes `?`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\textbackslash{}"),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '<' | '>' | '|' => escaped.push_str(&format!("${character}$").replace('|', "\\vert")),
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => escaped.extend(['\\', character]),
            c if c.is_whitespace() => escaped.push(' '),
            c if c.is_ascii_graphic() || ('\u{a1}'..='\u{17f}').contains(&c) => escaped.push(c),
            _ => escaped.push('?'),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{results, two_sets};

    #[test]
    fn braces_balance_and_every_row_has_as_many_columns() {
        let mut results = results();
        results.arms[0].arm = "a_b&50%\\{x}$#~^|分\n".to_owned();
        results.arms[1].cost_nanos = Some(300_000_000);
        let text = latex(&results);
        let bare = text.replace("\\{", "").replace("\\}", "");
        assert_eq!(bare.matches('{').count(), bare.matches('}').count(), "{text}");
        let rows: Vec<&str> = text.lines().filter(|line| line.ends_with("\\\\")).collect();
        assert_eq!(rows.len(), 1 + results.arms.len(), "{text}");
        assert!(rows.iter().all(|row| row.replace("\\&", "").matches('&').count() == 5), "{text}");
        assert!(rows[1].contains("a\\_b\\&50\\%\\textbackslash{}\\{x\\}\\$\\#\\textasciitilde{}"), "{text}");
        assert!(rows[2].contains("40.0 (35.0--45.0)") && rows[2].ends_with("& 1.00 \\\\"), "{text}");
    }

    #[test]
    fn each_data_set_has_a_table_with_a_label_of_its_own() {
        let text = latex(&two_sets());
        let (stories, facts) = text.split_once("\\end{table}").unwrap();
        assert!(stories.contains("\\caption{quickstart, stories: ") && facts.contains("\\caption{quickstart, facts: "));
        assert!(stories.contains("-1}\n") && facts.contains("-2}\n"), "{text}");
        assert!(stories.contains("& 300 &") && !text.contains("& 600 &"), "{text}");
    }

    #[test]
    fn without_prices_there_is_no_column_for_them() {
        assert!(!latex(&results()).contains("1,000"));
    }
}
