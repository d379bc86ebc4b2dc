//! Batches beside other workers: each is followed by one of them, and by the next when that one is gone. What the endpoint was
//! told is counted there.

use std::{collections::BTreeSet, process::Child};

use divvy_testkit::teacher::{Asked, Bureau, Door, Fate, HandedIn, Mishap, RowFate};

use super::{DATABASE, ITEMS, Machines, TEST_ROWS, TRAIN_ROWS, signal};
use crate::{
    bench::{ended, wait_for},
    school::{RECIPE, TRAIN, bureau, in_batches},
};

impl Machines {
    fn in_batches(bureau_: Bureau, more: &str) -> Option<Self> {
        let machines = Self::new(bureau(bureau_))?;
        machines.bench.recipe(&in_batches(more));
        Some(machines)
    }

    fn collect(&self) -> Child {
        self.command(&["collect", "recipe.toml"]).spawn().unwrap()
    }

    /// Rows that were handed in, and how many of them differ. One that came to be in the very moment in which its worker lost it
    /// is cancelled.
    fn rows(&self) -> (usize, usize) {
        let handed_in = self.bench.teacher.handed_in();
        let counts = handed_in.iter().filter(|batch| !is_cancelled(batch));
        let rows: Vec<String> = counts.flat_map(|batch| &batch.asked).map(|a| a.body.to_string()).collect();
        (rows.len(), rows.iter().collect::<BTreeSet<_>>().len())
    }

    fn out(&self) -> usize {
        self.bench.teacher.handed_in().iter().filter(|batch| batch.status == "in_progress").count()
    }

    /// Every row was handed in once, and answered, and nobody was asked online.
    #[track_caller]
    fn assert_collected(&self) {
        assert_eq!((self.rows(), self.bench.teacher.asked().len()), ((TRAIN, TRAIN), 0));
        assert_eq!((self.count("call"), self.count("item_history")), (TRAIN, TRAIN));
        assert_eq!((self.count("batch_row"), self.count("batch WHERE NOT is_over")), (0, 0));
    }
}

/// On its way to it at least: nobody looks at it any more.
fn is_cancelled(batch: &HandedIn) -> bool {
    batch.status.starts_with("cancel")
}

fn held() -> Bureau {
    Bureau { fates: vec![Fate::Hold { answered: 0 }; 4], ..Bureau::default() }
}

#[test]
fn a_batch_of_a_worker_that_was_killed_is_followed_by_the_next() {
    let Some(machines) = Machines::in_batches(held(), "") else { return };
    let mut killed = machines.collect();
    wait_for(&mut killed, || machines.out() > 0 && machines.rows().0 == TRAIN);
    let status = machines.done(&["status", "recipe.toml"]).stdout;
    assert!(status.contains("rows of teacher at http://127.0.0.1") && status.contains("batch_1"), "{status}");
    let other = machines.collect();
    killed.kill().unwrap();
    killed.wait().unwrap();
    machines.bench.teacher.release();
    let other = ended(other);
    assert_eq!(other.code, Some(0), "{other:?}");
    assert!(other.stderr.contains("is taken up again"), "{other:?}");
    machines.assert_collected();
}

#[test]
fn a_worker_that_stood_still_finds_its_batch_in_other_hands() {
    let Some(machines) = Machines::in_batches(held(), "") else { return };
    let mut paused = machines.collect();
    wait_for(&mut paused, || machines.out() > 0 && machines.rows().0 == TRAIN);
    signal(&paused, "-STOP");
    let other = machines.collect();
    machines.bench.teacher.release();
    let other = ended(other);
    assert_eq!(other.code, Some(0), "{other:?}");
    machines.assert_collected();
    signal(&paused, "-CONT");
    let paused = ended(paused);
    assert_eq!(paused.code, Some(0), "{paused:?}");
    machines.assert_collected();
    assert_eq!(machines.count("attempt"), TRAIN, "each row is charged once");
}

/// Its first file is refused row by row for a word, so that what it has out is each row's second try.
#[test]
fn what_came_of_later_tries_elsewhere_is_found_too() {
    const WANTS: &str = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.";
    let row = |_: &Asked, batch: usize| match batch {
        1 => RowFate::Status(400, WANTS.to_owned()),
        _ => RowFate::Answered,
    };
    let fates = vec![Fate::Complete, Fate::Hold { answered: 0 }];
    let own_word = Bureau { row: Box::new(row), fates, ..Bureau::default() };
    let Some(machines) = Machines::in_batches(own_word, "") else { return };
    let mut paused = machines.collect();
    wait_for(&mut paused, || machines.rows().0 == 2 * TRAIN && machines.out() > 0);
    signal(&paused, "-STOP");
    let other = machines.collect();
    machines.bench.teacher.release();
    let other = ended(other);
    assert_eq!(other.code, Some(0), "{other:?}");
    signal(&paused, "-CONT");
    let paused = ended(paused);
    assert_eq!(paused.code, Some(0), "{paused:?}");
    assert_eq!((machines.rows().0, machines.count("call")), (2 * TRAIN, TRAIN));
}

/// As if another had taken the first batch over and given it up, between the last look at who follows it and its creation.
const LOST: &str = "CREATE TABLE divvy.lost (intent TEXT);
    CREATE FUNCTION divvy.lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.state = 'uploaded' AND NOT EXISTS (SELECT FROM divvy.lost) THEN
            INSERT INTO divvy.lost VALUES (NEW.intent);
            DELETE FROM divvy.batch_row WHERE intent = NEW.intent;
            UPDATE divvy.batch SET is_over = true, worker = (SELECT min(id) FROM divvy.worker) WHERE intent = NEW.intent;
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER lose AFTER INSERT ON divvy.batch_event FOR EACH ROW EXECUTE FUNCTION divvy.lose()";

#[test]
fn a_batch_that_comes_to_be_when_its_worker_has_lost_it_is_cancelled() {
    let fates = vec![Fate::Hold { answered: 0 }];
    handed_in_when_lost(Bureau { fates, ..Bureau::default() }, true);
}

/// It was over when it was to be cancelled: the endpoint says so, again and again.
#[test]
fn a_batch_that_its_worker_has_lost_and_that_is_over_holds_up_nothing() {
    let mishaps = vec![(Door::Cancel, Mishap::Status(409, None)); 50];
    handed_in_when_lost(Bureau { mishaps, ..Bureau::default() }, false);
}

fn handed_in_when_lost(bureau: Bureau, is_cancelled_there: bool) {
    let Some(machines) = Machines::in_batches(bureau, "") else { return };
    // Whoever comes first makes the tables.
    machines.bench.recipe(&RECIPE.replace("rows = 12", "rows = 1"));
    machines.done(&["collect", "recipe.toml"]);
    let _ = machines.server.query(DATABASE, LOST);
    machines.bench.recipe(&in_batches(""));
    machines.done(&["collect", "recipe.toml"]);
    let cancelled: Vec<bool> = machines.bench.teacher.handed_in().iter().map(is_cancelled).collect();
    // What was answered there for nobody is paid twice.
    let handed_in = if is_cancelled_there { TRAIN - 1 } else { 2 * (TRAIN - 1) };
    assert_eq!((cancelled, machines.rows()), (vec![is_cancelled_there, false], (handed_in, TRAIN - 1)));
    assert_eq!((machines.count("call"), machines.count("batch_row")), (TRAIN, 0));
}

/// Many small batches, of which each worker has several out when something happens to it.
#[test]
fn three_workers_hand_in_every_row_once_though_one_is_killed_and_one_stands_still() {
    let Some(machines) = Machines::new(bureau(Bureau { looks: 6, page: 2, ..Bureau::default() })) else { return };
    let hurried = "poll_seconds = 0.05, gather_seconds = 0.05, rows = 5, at_once = 20";
    let small = in_batches("").replace("poll_seconds = 0.01, gather_seconds = 0.5", hurried);
    machines.bench.recipe(
        &small
            .replace("rows = 12", &format!("rows = {TRAIN_ROWS}"))
            .replace("rows = 8", &format!("rows = {TEST_ROWS}")),
    );
    let [mut killed, mut paused, steady] = machines.workers();
    wait_for(&mut killed, || machines.rows().0 >= 40);
    killed.kill().unwrap();
    killed.wait().unwrap();
    wait_for(&mut paused, || machines.rows().0 >= 80);
    signal(&paused, "-STOP");
    let steady = ended(steady);
    assert_eq!(steady.code, Some(0), "{steady:?}");
    signal(&paused, "-CONT");
    let paused = ended(paused);
    assert_eq!(paused.code, Some(0), "{paused:?}");
    let (rows, distinct) = machines.rows();
    assert_eq!((rows, machines.bench.teacher.asked().len()), (distinct, 0), "a row was handed in twice");
    assert_eq!((machines.count("call"), machines.count("batch_row")), (rows, 0));
    assert_eq!(
        (machines.count("item WHERE state IN ('done', 'rejected')"), machines.count("item_history")),
        (ITEMS, ITEMS)
    );
}
