//! One arm's figures, summed over its questions.

use std::sync::Arc;

use divvy_core::{
    arm::Arm,
    quality::Quality,
    question::Question,
    records::{ItemState, Outcome},
    results::{ArmResult, Example, Measured, StepSlice},
};

use super::{
    counted::{Counted, EXAMPLES, Figures},
    outline::Outlines,
    quality::{Shares, unanswered},
    scored::Evaluated,
    scoring::Further,
    seeds::{self, Member},
    sharing::{Part, Sharing, has_partial_credit},
};
use crate::{
    evaluate::{Graded, Spent},
    rows,
};

/// Of all its members as of one arm: the answers to all questions, as often as there are repeats and members.
pub(super) fn arm_result(
    arm: &Arm,
    (asked, repeats): (&Outlines<'_>, u32),
    members: &[Member<'_>],
    sharing: &Sharing,
    further: &mut Further,
) -> Evaluated {
    let mut tally = Tally::default();
    for member in members {
        further.hear(member.verdicts);
        for repeat in 0..repeats {
            for (at, outline) in asked.each.iter().enumerate() {
                let row = member.rows.get(&outline.id, repeat);
                let full = || asked.full(at);
                tally.add_answer(at, row, &full);
                further.add(outline, repeat, row.and_then(|row| row.graded.as_ref()), &full);
            }
        }
    }
    let (right, scores) = (tally.right.clone(), tally.scores.clone());
    let by_steps = by_steps(asked, &right, sharing, members.len());
    let arm = ArmResult { by_steps, ..tally.result(arm, sharing, members.len()) };
    Evaluated { arm, right, scores, members: Vec::new() }
}

fn by_steps(asked: &Outlines<'_>, right: &[bool], sharing: &Sharing, seeds: usize) -> Vec<StepSlice> {
    let slice = |(steps, places): (u32, Vec<usize>)| {
        let Part { n, correct, ci } = sharing.part(&places, right, seeds);
        StepSlice { steps, n, correct, ci: Some(ci) }
    };
    asked.by_steps().into_iter().map(slice).collect()
}

/// Sums over the questions of one arm.
#[derive(Default)]
struct Tally {
    right: Vec<bool>,
    scores: Vec<f64>,
    /// Of those that have no grade.
    without_decomposition: u64,
    no_answer: u64,
    truncated: u64,
    refused: u64,
    errors: u64,
    pending: u64,
    decompose: Sum,
    solve: Sum,
    malformed: u64,
    subquestions: u64,
    decomposed: u64,
    quality: Quality,
    shares: Shares,
    examples: Vec<Example>,
}

#[derive(Default)]
struct Sum {
    tokens_in: u64,
    tokens_out: u64,
}

impl Sum {
    fn add(&mut self, spent: Spent) {
        self.tokens_in += spent.tokens_in;
        self.tokens_out += spent.tokens_out;
    }
}

impl Tally {
    fn add_answer(&mut self, place: usize, row: Option<&Counted>, full: &dyn Fn() -> Arc<Question>) {
        self.without_decomposition += u64::from(row.is_some_and(|row| rows::has_no_decomposition(&row.state)));
        let graded = row.and_then(|row| row.graded.as_ref());
        let correct = graded.is_some_and(|graded| graded.grade.correct);
        self.right.push(correct);
        self.scores.push(graded.map_or(0.0, |graded| graded.grade.score));
        match graded {
            Some(graded) => self.add(place, graded, full),
            None if row.is_none_or(|row| row.state == ItemState::Pending) => self.pending += 1,
            None => {
                self.errors += 1;
                self.judge(place, unanswered());
                if let Some(lost) = row.and_then(|row| row.lost.as_deref()) {
                    self.decompose.add(lost.decompose);
                    self.solve.add(lost.solve);
                }
            }
        }
    }

    fn add(&mut self, place: usize, graded: &Figures, full: &dyn Fn() -> Arc<Question>) {
        match graded.grade.outcome {
            Outcome::Answered => {}
            Outcome::NoAnswer => self.no_answer += 1,
            Outcome::Truncated => self.truncated += 1,
            Outcome::Refused => self.refused += 1,
            Outcome::Error => self.errors += 1,
        }
        self.decompose.add(graded.decompose);
        self.solve.add(graded.solve);
        self.malformed += u64::from(graded.malformed);
        self.decomposed += u64::from(graded.subquestions.is_some());
        self.subquestions += graded.subquestions.unwrap_or(0);
        self.judge(place, graded.quality);
        if let Some(example) = graded.example.as_ref().filter(|_| self.examples.len() < EXAMPLES) {
            self.examples.push(show(&full(), example));
        }
    }

    fn judge(&mut self, place: usize, quality: Quality) {
        self.quality += quality;
        self.shares.add(place, &quality);
    }

    /// 95 % intervals of accuracy and of partial credit.
    fn intervals(&self, sharing: &Sharing, seeds: usize) -> ((f64, f64), Option<(f64, f64)>) {
        let accuracy = sharing.answers(&self.right, seeds);
        if self.right.len() == sharing.questions {
            return (accuracy, sharing.score(&self.right, &self.scores));
        }
        let score = || sharing.drawn(&seeds::per_seed(&self.scores, sharing.questions, seeds));
        (accuracy, has_partial_credit(&self.right, &self.scores).then(score).flatten())
    }

    fn result(self, arm: &Arm, sharing: &Sharing, seeds: usize) -> ArmResult {
        let (ci, score_ci) = self.intervals(sharing, seeds);
        let n = self.right.len() as u64;
        let correct = self.right.iter().filter(|right| **right).count() as u64;
        let share = |part: f64| if n == 0 { 0.0 } else { part / n as f64 };
        let two_stage = arm.strategy.needs_decomposer();
        ArmResult {
            arm: arm.slug(),
            strategy: arm.strategy,
            variant: arm.variant.clone(),
            decomposer: arm.decomposer.clone(),
            solver: arm.solver.clone(),
            n,
            each: n.checked_div(sharing.questions as u64).unwrap_or(1).max(1),
            pool: None,
            correct,
            accuracy: share(correct as f64),
            ci,
            passages: sharing.passages(),
            score: share(self.scores.iter().sum()),
            score_ci,
            no_answer: self.no_answer + self.without_decomposition,
            truncated: self.truncated,
            refused: self.refused,
            errors: self.errors - self.without_decomposition,
            pending: self.pending,
            tokens_in: Some(self.decompose.tokens_in + self.solve.tokens_in),
            tokens_out: Some(self.decompose.tokens_out + self.solve.tokens_out),
            decompose_tokens_in: Some(self.decompose.tokens_in),
            decompose_tokens_out: Some(self.decompose.tokens_out),
            solve_tokens_in: Some(self.solve.tokens_in),
            solve_tokens_out: Some(self.solve.tokens_out),
            // Counted with all other costs, from the calls.
            cost_nanos: None,
            well_formed: two_stage.then(|| share(n.saturating_sub(self.malformed + self.errors + self.pending) as f64)),
            mean_subquestions: (two_stage && self.decomposed > 0)
                .then(|| self.subquestions as f64 / self.decomposed as f64),
            decompositions: two_stage
                .then(|| Measured { counts: self.quality, intervals: self.shares.intervals(sharing) }),
            by_steps: Vec::new(),
            examples: self.examples,
        }
    }
}

fn show(question: &Question, graded: &Graded) -> Example {
    Example {
        question_id: question.id.0.clone(),
        premise: question.premise.clone(),
        question: question.text.clone(),
        gold: question.golds.iter().map(ToString::to_string).collect(),
        subquestions: rows::subquestions(graded),
        sub_answers: graded.sub_answers.clone(),
        reply: graded.reply.clone(),
        answer: graded.grade.answer.clone(),
        correct: graded.grade.correct,
        outcome: graded.grade.outcome,
    }
}
