//! Early stopping: the best step's weights are the result, however the run was cut.

use std::ops::ControlFlow;
use std::path::Path;

use super::fixture::{Fixture, LORA, NAMES, settings};
use super::guarantees::{digest, rows, timeless};
use crate::train::{
    Best, EarlyStop, Learnt, Look, Method, StopBy, TrainConfig, TrainError, TrainEvent, Trained, TrainedWeights, train,
    train_by,
};
use crate::weights::Weights;

fn go_on(_: TrainEvent) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// So high a rate that dev soon gets worse.
fn config(method: Method) -> TrainConfig {
    TrainConfig {
        epochs: 8,
        batch_rows: 3,
        micro_tokens: 32,
        learning_rate: 0.1,
        eval_every_steps: 2,
        early_stop: Some(EarlyStop { by: StopBy::DevLoss, patience: 2 }),
        ..settings(method)
    }
}

fn run(fixture: &Fixture, config: &TrainConfig, folder: Option<&Path>) -> Result<Trained, TrainError> {
    let rows = rows(11, 5);
    train(fixture.base(), &rows[2..], &rows[..2], config, folder, &mut go_on)
}

#[test]
fn the_best_step_is_the_result() {
    let fixture = Fixture::load(NAMES[1]);
    for method in [Method::Lora(LORA), Method::Full] {
        let config = config(method);
        let stopped = run(&fixture, &config, None).unwrap();
        let Best { step, value } = stopped.kept.unwrap();
        assert!(
            stopped.log.len() as u64 == step + 4,
            "{method:?}: two looks after step {step}, not {}",
            stopped.log.len()
        );
        assert!(stopped.log.len() < 24, "{method:?} never got worse");
        let looks: Vec<f64> = stopped.log.iter().filter_map(|record| record.dev_loss).collect();
        assert!(looks.iter().all(|loss| *loss >= value) && looks.contains(&value), "{looks:?}");
        // The run that is cut at that step holds the same weights then.
        let folder = tempfile::tempdir().unwrap();
        let mut until = |event: TrainEvent| match event {
            TrainEvent::Step(record) if record.step == step => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let rows = rows(11, 5);
        let cut = train(fixture.base(), &rows[2..], &rows[..2], &config, Some(folder.path()), &mut until);
        assert!(matches!(cut, Err(TrainError::Interrupted { .. })));
        let best = folder.path().join(format!("best-{step}.safetensors"));
        assert!(best.is_file(), "the best weights lie beside the checkpoint");
        let whole = run(&fixture, &config, Some(folder.path())).unwrap();
        assert_eq!(digest(&whole), digest(&stopped));
    }
}

#[test]
fn cut_anywhere_it_ends_at_the_same_step_with_the_same_weights() {
    let fixture = Fixture::load(NAMES[1]);
    let rows = rows(11, 5);
    let config = config(Method::Lora(LORA));
    let whole = run(&fixture, &config, None).unwrap();
    for stop_after in (1..40).step_by(3) {
        for every in [1, 100] {
            let folder = tempfile::tempdir().unwrap();
            let config = TrainConfig { checkpoint_every_steps: every, ..config.clone() };
            let mut events = 0;
            let mut stop = |_| {
                events += 1;
                if events > stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            // A cut after the end is none.
            let _ = train(fixture.base(), &rows[2..], &rows[..2], &config, Some(folder.path()), &mut stop);
            let resumed = run(&fixture, &config, Some(folder.path())).unwrap();
            assert_eq!((digest(&resumed), resumed.kept), (digest(&whole), whole.kept), "{stop_after} {every}");
            assert_eq!(timeless(&resumed.log), timeless(&whole.log));
            let again = run(&fixture, &config, Some(folder.path())).unwrap();
            assert_eq!((digest(&again), again.log), (digest(&whole), resumed.log), "a finished run returns at once");
            let files = std::fs::read_dir(folder.path()).unwrap().count();
            assert_eq!(files, 2, "the checkpoint and one best step");
        }
    }
}

#[test]
fn another_cadence_is_another_run_and_without_dev_there_is_nothing_to_watch() {
    let fixture = Fixture::load(NAMES[1]);
    let (config, folder) = (config(Method::Lora(LORA)), tempfile::tempdir().unwrap());
    run(&fixture, &config, Some(folder.path())).unwrap();
    let error =
        run(&fixture, &TrainConfig { eval_every_steps: 3, ..config.clone() }, Some(folder.path())).err().unwrap();
    assert!(matches!(error, TrainError::OtherRun { .. }), "{error}");
    let error = train(fixture.base(), &rows(4, 1), &[], &config, None, &mut go_on).err().unwrap();
    assert!(error.to_string().contains("no dev row fits"), "{error}");
}

#[test]
fn whoever_judges_what_is_learnt_may_end_a_run() {
    let fixture = Fixture::load(NAMES[1]);
    let rows = rows(11, 5);
    let early_stop = Some(EarlyStop { by: StopBy::Quality, patience: 2 });
    let config = TrainConfig { early_stop, learning_rate: 1e-3, ..config(Method::Lora(LORA)) };
    let folder = tempfile::tempdir().unwrap();
    let judged = |look: &mut Look<'_>, folder: Option<&Path>| {
        train_by(fixture.base(), (&rows[2..], &rows[..2]), &config, folder, &mut go_on, Some(look))
    };
    // The second look is the best, and the third is broken off once.
    let (mut looks, mut broken) = (Vec::new(), false);
    let mut quality = |step, learnt: Learnt<'_>| {
        let Learnt::Adapter(adapter) = learnt else { panic!("LoRA learns an adapter") };
        assert!(step % 2 == 0, "{step}");
        if looks.len() == 2 && !std::mem::replace(&mut broken, true) {
            return Err(TrainError::Interrupted { step: 0, checkpoint: None });
        }
        looks.push(adapter.digest());
        Ok(Some([0.1, 0.7, 0.7, 0.2, 0.9][looks.len() - 1]))
    };
    let error = judged(&mut quality, Some(folder.path())).err().unwrap();
    let TrainError::Interrupted { step: 6, checkpoint: Some(kept) } = error else { panic!("{error}") };
    assert!(kept.is_file(), "the step is there, though its look was broken off");
    let mut at_once = |_: TrainEvent| ControlFlow::Break(());
    let again = train_by(fixture.base(), (&rows[2..], &rows[..2]), &config, Some(folder.path()), &mut at_once, None);
    assert!(matches!(again, Err(TrainError::Interrupted { step: 6, .. })), "broken off before the look is taken again");
    let resumed = judged(&mut quality, Some(folder.path())).unwrap();
    assert_eq!(looks.len(), 4, "the third look is taken again, those before are not");
    let mut scores = [0.1, 0.7, 0.7, 0.2, 0.9].into_iter();
    let whole = judged(&mut |_, _| Ok(scores.next()), None).unwrap();
    assert_eq!(whole.kept, Some(Best { step: 4, value: 0.7 }));
    assert_eq!((whole.log.len(), digest(&whole)), (8, looks[1].clone()), "the adapter that was judged best");
    assert_eq!(whole.log[3].dev_quality, Some(0.7));
    assert_eq!(
        (digest(&resumed), resumed.kept, timeless(&resumed.log)),
        (digest(&whole), whole.kept, timeless(&whole.log))
    );
}

#[test]
fn a_model_that_is_trained_as_a_whole_is_judged_as_it_is_after_the_step() {
    let fixture = Fixture::load(NAMES[1]);
    let rows = rows(11, 5);
    let early_stop = Some(EarlyStop { by: StopBy::Quality, patience: 2 });
    let config = TrainConfig { early_stop, learning_rate: 1e-3, ..config(Method::Full) };
    let one_row = |weights: &Weights| {
        let mut row = vec![0.0; fixture.config.hidden];
        weights.layers[0].qkv.row(3, &mut row);
        row
    };
    let mut seen = Vec::new();
    let mut look = |_, learnt: Learnt<'_>| {
        let Learnt::Whole(weights) = learnt else { panic!("every weight is trained") };
        // Whoever generates with them has them for as long as that takes.
        seen.push(one_row(&weights.clone()));
        Ok(Some([0.1, 0.7, 0.2, 0.2][seen.len() - 1]))
    };
    let sets = (&rows[2..], &rows[..2]);
    let trained = train_by(fixture.base(), sets, &config, None, &mut go_on, Some(&mut look)).unwrap();
    let TrainedWeights::Full(full) = &trained.weights else { panic!("every weight is trained") };
    assert_eq!((trained.kept, seen.len()), (Some(Best { step: 4, value: 0.7 }), 4));
    assert!(seen[0] != seen[1] && seen[0] != one_row(&fixture.weights));
    assert_eq!(one_row(&full.weights()), seen[1], "the model that was judged best");
}
