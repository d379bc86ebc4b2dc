//! The answers of every arm under the further scorers of the recipe, from the replies in the store: nothing is asked. A reply
//! that is missing is wrong by every scorer.

use std::sync::Arc;

use divvy_core::{
    graded::answer_name,
    plan::EvaluatePlan,
    question::Question,
    recipe::FurtherScorer,
    results::{Disagreement, ScoredArm, Scoring},
    scorers,
};

use super::{counted::Figures, outline::Outline, sharing::Sharing};
use crate::{evaluate::Graded, graders::judge::Verdicts};

/// What the questions' own scorers are called.
const OWN: &str = "own";
const JUDGE: &str = "judge";

/// Collects question by question, of one arm after another.
pub(super) struct Further {
    scorers: Vec<FurtherScorer>,
    has_judge: bool,
    /// Of the arm.
    verdicts: Verdicts,
    arm: String,
    /// Questions that the arm is asked, each once or several times.
    questions: usize,
    /// Its answers so far.
    asked: usize,
    columns: Vec<Column>,
    arms: Vec<ScoredArm>,
    disagreements: Vec<Disagreement>,
}

/// One scorer on one arm.
struct Column {
    name: &'static str,
    /// Places of the questions that it can grade, and what it said.
    places: Vec<usize>,
    right: Vec<bool>,
    score: f64,
    unread: u64,
}

/// What one scorer says of one answer.
#[derive(Clone, Copy)]
struct Said {
    scorer: &'static str,
    correct: bool,
    score: f64,
    /// A judge that has said nothing, or nothing readable.
    unread: bool,
}

impl Further {
    pub(super) fn of(plan: &EvaluatePlan) -> Self {
        Self { scorers: plan.scorers.clone(), has_judge: plan.judge.is_some(), ..Self::nobody() }
    }

    /// Where further scorers are not told of.
    pub(super) fn nobody() -> Self {
        Self {
            scorers: Vec::new(),
            has_judge: false,
            verdicts: Verdicts::new(),
            arm: String::new(),
            questions: 0,
            asked: 0,
            columns: Vec::new(),
            arms: Vec::new(),
            disagreements: Vec::new(),
        }
    }

    /// Nobody asks for more than the questions' own scorers.
    fn is_idle(&self) -> bool {
        self.scorers.is_empty() && !self.has_judge
    }

    /// The judge's word on the answers that follow.
    pub(super) fn hear(&mut self, verdicts: Option<&Verdicts>) {
        self.verdicts = verdicts.cloned().unwrap_or_default();
    }

    pub(super) fn begin(&mut self, arm: &str, questions: usize) {
        (self.arm, self.asked, self.questions) = (arm.to_owned(), 0, questions);
        let names = std::iter::once(OWN).chain(self.scorers.iter().map(|scorer| scorer.name()));
        let names = names.chain(self.has_judge.then_some(JUDGE));
        self.columns =
            names.map(|name| Column { name, places: Vec::new(), right: Vec::new(), score: 0.0, unread: 0 }).collect();
    }

    /// The answer with this number to a question, from 0.
    pub(super) fn add(
        &mut self,
        asked: &Outline,
        repeat: u32,
        graded: Option<&Figures>,
        full: &dyn Fn() -> Arc<Question>,
    ) {
        if self.is_idle() {
            return;
        }
        let said: Vec<Option<Said>> = self.said(asked, repeat, graded);
        for (column, said) in self.columns.iter_mut().zip(&said) {
            let Some(said) = said else { continue };
            column.places.push(self.asked % self.questions.max(1));
            column.right.push(said.correct);
            column.score += said.score;
            column.unread += u64::from(said.unread);
        }
        self.asked += 1;
        let Some(graded) = graded else { return };
        let by = |correct| said.iter().flatten().filter(move |said| !said.unread && said.correct == correct);
        let names = |correct| by(correct).map(|said| said.scorer.to_owned()).collect::<Vec<_>>();
        let (right_by, wrong_by) = (names(true), names(false));
        if !right_by.is_empty() && !wrong_by.is_empty() {
            self.disagreements.push(Disagreement {
                arm: answer_name(&self.arm, repeat),
                question_id: asked.id.0.clone(),
                answer: graded.grade.answer.clone(),
                gold: full().golds.iter().map(ToString::to_string).collect(),
                right_by,
                wrong_by,
            });
        }
    }

    /// By the question's own scorer first, then by each of the others that has rules for it.
    fn said(&self, asked: &Outline, repeat: u32, graded: Option<&Figures>) -> Vec<Option<Said>> {
        let own = graded.map_or((false, 0.0), |graded| (graded.grade.correct, graded.grade.score));
        let own = Said { scorer: OWN, correct: own.0, score: own.1, unread: false };
        let by = |(at, further): (usize, &FurtherScorer)| {
            let wrong = || further.scorer(asked.scorer).map(|_| (false, 0.0));
            let (correct, score) = graded.map_or_else(wrong, |graded| graded.further[at])?;
            Some(Said { scorer: further.name(), correct, score, unread: false })
        };
        let judge = self.has_judge.then(|| Some(self.judged(asked, repeat, graded)));
        std::iter::once(Some(own)).chain(self.scorers.iter().enumerate().map(by)).chain(judge).collect()
    }

    fn judged(&self, asked: &Outline, repeat: u32, graded: Option<&Figures>) -> Said {
        let answer = graded.and_then(|graded| graded.grade.answer.as_ref());
        // A verdict on another answer than this is none.
        let verdict = self.verdicts.get(&(asked.id.clone(), repeat)).filter(|judged| Some(&judged.answer) == answer);
        let correct = verdict.and_then(|judged| judged.correct);
        let score = f64::from(u8::from(correct == Some(true)));
        Said { scorer: JUDGE, correct: correct == Some(true), score, unread: answer.is_some() && correct.is_none() }
    }

    pub(super) fn end(&mut self, sharing: &Sharing) {
        if self.is_idle() {
            return;
        }
        let arm = std::mem::take(&mut self.arm);
        let columns = std::mem::take(&mut self.columns);
        self.arms.extend(columns.into_iter().map(|column| column.result(&arm, sharing)));
    }

    /// What was collected of other arms, behind these.
    pub(super) fn append(&mut self, other: Self) {
        self.arms.extend(other.arms);
        self.disagreements.extend(other.disagreements);
    }

    pub(super) fn scoring(self) -> Option<Scoring> {
        (!self.arms.is_empty()).then_some(Scoring {
            version: scorers::VERSION,
            arms: self.arms,
            disagreements: self.disagreements,
        })
    }
}

/// Correct, and partial credit; `None` where the scorer has no rules for the question. An arm that could not decompose gave no
/// reply to grade.
pub(super) fn regraded(further: FurtherScorer, question: &Question, graded: &Graded) -> Option<(bool, f64)> {
    let scorer = further.scorer(question.scorer)?;
    if graded.malformed {
        return Some((false, 0.0));
    }
    let grade = scorer.grade(&graded.reply, &graded.finish(), &question.golds);
    Some((grade.correct, grade.score))
}

impl Column {
    fn result(self, arm: &str, sharing: &Sharing) -> ScoredArm {
        let (n, correct) = (self.right.len(), self.right.iter().filter(|right| **right).count());
        let share = |part: f64| if n == 0 { 0.0 } else { part / n as f64 };
        ScoredArm {
            arm: arm.to_owned(),
            scorer: self.name.to_owned(),
            n: n as u64,
            correct: correct as u64,
            accuracy: share(correct as f64),
            ci: sharing.accuracy_at(&self.places, &self.right),
            score: share(self.score),
            unread: self.unread,
        }
    }
}
