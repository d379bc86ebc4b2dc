//! 2WikiMultihopQA (Ho et al. 2020): HotpotQA's form, and the chain of facts behind each answer as triples, of which a
//! decomposition is made: one subquestion a triple, with `#k` where its subject is the object of an earlier one. Rows of
//! some files have no context; they stand alone.
//!
//! ```json
//! {"_id": "w1", "type": "compositional", "question": "When was the director of Sample Film born?", "answer": "3 May 1900", "answer_aliases": ["May 3, 1900"],
//!  "context": [["Sample Film", ["It was made by Ann Example."]], ["Ann Example", ["She was born on 3 May 1900."]]], "supporting_facts": [["Sample Film", 0], ["Ann Example", 0]],
//!  "evidences": [["Sample Film", "director", "Ann Example"], ["Ann Example", "date of birth", "3 May 1900"]]}
//! ```

use serde_json::Value;

use super::{RowContext, RowError, fail, hotpotqa, list, object, texts};
use crate::{decomposition::Decomposition, question::Question};

/// Reads one row.
///
/// # Errors
/// [`RowError`] for a missing question or answer, or a malformed context or triple.
pub fn parse(row: &Value, context: &RowContext<'_>) -> Result<Question, RowError> {
    let row = object(row)?;
    let mut question = hotpotqa::asked(row, context)?;
    if row.contains_key("evidences") {
        let triples = list(row, "evidences")?.iter().map(triple).collect::<Result<Vec<_>, _>>()?;
        question.steps = u32::try_from(triples.len()).ok().filter(|steps| *steps > 0);
        question.recorded = question.steps.map(|_| decomposition(&triples));
    }
    Ok(question)
}

fn triple(value: &Value) -> Result<[String; 3], RowError> {
    texts(value).try_into().map_err(|_| fail("`evidences` holds something else than [subject, relation, object]"))
}

fn decomposition(triples: &[[String; 3]]) -> Decomposition {
    let subquestion = |(at, [subject, relation, _]): (usize, &[String; 3])| {
        let earlier = triples[..at].iter().rposition(|[_, _, object]| object == subject);
        let subject = earlier.map_or_else(|| subject.clone(), |index| format!("#{}", index + 1));
        format!("What is the {relation} of {subject}?")
    };
    Decomposition::from_texts(triples.iter().enumerate().map(subquestion))
}
