//! What is counted of every row, made on any thread when its part of the store is read: a record is understood once, and its
//! texts are not kept.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use divvy_core::{
    arm::{Arm, Strategy},
    digest::Digest,
    plan::EvaluatePlan,
    quality::{Quality, Secrets},
    question::{Question, QuestionId},
    recipe::FurtherScorer,
    records::{Grade, ItemState},
};
use divvy_store::CallUsage;

use super::{quality, scoring, seeds};
use crate::{
    evaluate::{Graded, Spent},
    rows::{self, Lost, Part},
};

/// Browsable examples an arm keeps in the report.
pub(super) const EXAMPLES: usize = 10;

/// A row without its texts.
pub(super) struct Counted {
    pub(super) state: ItemState,
    /// The calls behind it, in order.
    pub(super) calls: Box<[Digest]>,
    /// Of one that is done.
    pub(super) graded: Option<Figures>,
    /// Of another one, what it took all the same.
    pub(super) lost: Option<Box<Lost>>,
}

/// Of a graded answer.
pub(super) struct Figures {
    pub(super) grade: Grade,
    pub(super) decompose: Spent,
    pub(super) solve: Spent,
    pub(super) malformed: bool,
    /// Subquestions that it was given to solve.
    pub(super) subquestions: Option<u64>,
    /// Of its decomposition, where its arm has one written.
    pub(super) quality: Quality,
    /// Correct, and partial credit, by each further scorer of the plan; `None` of one that has no rules for the question.
    pub(super) further: Box<[Option<(bool, f64)>]>,
    /// The whole, of the first of each arm.
    pub(super) example: Option<Box<Graded>>,
}

/// What is to be counted.
pub(super) struct Counting {
    /// By slug.
    strategies: HashMap<String, Strategy>,
    further: Vec<FurtherScorer>,
}

/// Of one part of the store.
pub(super) struct CountedPart {
    /// In the order of the questions.
    rows: Vec<Placed>,
    calls: Vec<CallUsage>,
}

struct Placed {
    arm: String,
    repeat: u32,
    question: Arc<Question>,
    counted: Box<Counted>,
}

/// A question of the part.
struct Asked {
    question: Arc<Question>,
    secrets: OnceCell<Secrets>,
}

impl Asked {
    fn secrets(&self) -> &Secrets {
        self.secrets.get_or_init(|| Secrets::of(&self.question))
    }
}

impl Counting {
    pub(super) fn of(plan: &EvaluatePlan) -> Self {
        let strategies = plan.arms.iter().map(|arm: &Arm| (arm.slug(), arm.strategy)).collect();
        Self { strategies, further: plan.scorers.clone() }
    }

    pub(super) fn count(&self, mut part: Part) -> CountedPart {
        let (rows, questions) = (std::mem::take(&mut part.rows), std::mem::take(&mut part.questions));
        // Many arms answer one question.
        let asked: Vec<Asked> =
            questions.into_iter().map(|question| Asked { question, secrets: OnceCell::new() }).collect();
        let rows = rows.into_iter().filter_map(|row| self.placed(row, &asked)).collect();
        CountedPart { rows, calls: part.figures() }
    }

    /// `None` for an arm that the plan does not have.
    fn placed(&self, row: rows::Row, questions: &[Asked]) -> Option<Placed> {
        let rows::Row { question, item, graded, lost, .. } = row;
        let (question, strategy) = (&questions[question], *self.strategies.get(&item.arm)?);
        let figures = graded.map(|graded| self.figures(question, strategy, graded));
        Some(Placed {
            arm: item.arm,
            repeat: item.sample,
            question: Arc::clone(&question.question),
            counted: Box::new(Counted { state: item.state, calls: item.calls.into(), graded: figures, lost }),
        })
    }

    fn figures(&self, asked: &Asked, strategy: Strategy, graded: Graded) -> Figures {
        let (question, mut quality) = (&*asked.question, Quality::default());
        if strategy.needs_decomposer() {
            quality::count(&mut quality, strategy, (question, asked.secrets()), &graded);
        }
        let by = |further: &FurtherScorer| scoring::regraded(*further, question, &graded);
        Figures {
            grade: graded.grade.clone(),
            decompose: graded.decompose,
            solve: graded.solve,
            malformed: graded.malformed,
            subquestions: graded.decomposition.as_ref().map(|decomposition| decomposition.steps().len() as u64),
            quality,
            further: self.further.iter().map(by).collect(),
            example: Some(Box::new(graded)),
        }
    }
}

/// The rows of one arm.
#[derive(Default)]
pub(super) struct ArmRows {
    /// By [`seeds::answer`].
    answers: HashMap<String, Box<Counted>>,
    /// How many examples there are of each data set and repeat.
    examples: BTreeMap<(String, u32), usize>,
}

/// Those of all arms, by slug.
pub(super) type ByArm = HashMap<String, ArmRows>;

impl ArmRows {
    pub(super) fn get(&self, question: &QuestionId, repeat: u32) -> Option<&Counted> {
        self.answers.get(&*seeds::answer(question, repeat)).map(|row| &**row)
    }

    /// Parts come in the order of the questions: what is kept whole is what the report shows.
    fn add(&mut self, placed: Placed) {
        let Placed { repeat, question, mut counted, .. } = placed;
        if let Some(figures) = &mut counted.graded {
            let kept = self.examples.entry((question.dataset.clone(), repeat)).or_default();
            *kept += 1;
            figures.example.take_if(|_| *kept > EXAMPLES);
        }
        self.answers.insert(seeds::answer(&question.id, repeat).into_owned(), counted);
    }
}

impl CountedPart {
    /// Puts its rows where they belong; what is left are its calls.
    pub(super) fn file(self, by_arm: &mut ByArm) -> Vec<CallUsage> {
        for mut placed in self.rows {
            let arm = std::mem::take(&mut placed.arm);
            by_arm.entry(arm).or_default().add(placed);
        }
        self.calls
    }
}
