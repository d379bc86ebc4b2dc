//! The account that workers have in common.

use divvy_store::{Amount, Exchange, Spending};
use divvy_testkit::postgres::Postgres;

use super::{LONG, SHORT, Worker, plan, random};
use crate::key;

/// A worker's side of the account.
struct Purse {
    worker: Worker,
    turn: i64,
    holds: Amount,
    spent: Amount,
    unbooked: Amount,
}

impl Purse {
    fn exchange(&mut self, need: Amount, more: Amount, cap: Amount) -> bool {
        self.turn += 1;
        let caps = [Some(cap.calls), Some(cap.tokens), Some(cap.nanos)];
        let exchange = Exchange { turn: self.turn, spent: self.unbooked, keep: Amount::default(), need, more, caps };
        let (first, again) = self.worker.run(async {
            let first = self.worker.store.borrow(&plan(), &exchange).await.unwrap();
            // As if the answer had been lost.
            (first, self.worker.store.borrow(&plan(), &exchange).await.unwrap())
        });
        assert_eq!((first.granted, first.holds), (again.granted, again.holds), "an exchange is booked once");
        (self.holds, self.unbooked) = (first.holds, Amount::default());
        first.granted
    }

    fn spend(&mut self, cost: Amount) {
        for sum in [&mut self.spent, &mut self.unbooked] {
            *sum = sum.plus(cost);
        }
        self.holds = self.holds.minus(cost);
    }
}

#[test]
fn no_order_of_events_spends_more_than_the_cap() {
    let Some(server) = Postgres::start() else { return };
    let cap = Amount { calls: 60, tokens: 5_000, nanos: 90_000 };
    for seed in 0..6 {
        let url = server.database(&format!("account{seed}"));
        let purse = || Purse {
            worker: Worker::new(&url, LONG),
            turn: 0,
            holds: Amount::default(),
            spent: Amount::default(),
            unbooked: Amount::default(),
        };
        let (mut state, mut purses) = (seed, [purse(), purse(), purse()]);
        let mut refusals = 0;
        while refusals < 20 {
            let purse = &mut purses[random(&mut state, 3) as usize];
            let most = Amount { calls: 1, tokens: 100, nanos: 1_000 + 2_000 * (seed as i64 % 2) };
            let fits = |has: Amount| has.calls >= most.calls && has.tokens >= most.tokens && has.nanos >= most.nanos;
            let more = Amount { calls: 4, tokens: 400, nanos: 4_000 };
            if random(&mut state, 8) == 0 {
                purse.exchange(Amount::default(), Amount::default(), cap); // gives back what it holds
            }
            if fits(purse.holds) || purse.exchange(most, more, cap) {
                let part = random(&mut state, 100) as i64;
                purse.spend(Amount { calls: 1, tokens: most.tokens * part / 100, nanos: most.nanos * part / 100 });
            } else {
                refusals += 1;
            }
            let all = purses.iter().fold(Amount::default(), |sum, purse| sum.plus(purse.spent));
            assert!(all.calls <= cap.calls && all.tokens <= cap.tokens && all.nanos <= cap.nanos, "{all:?}");
        }
        purses.iter_mut().for_each(|purse| _ = purse.exchange(Amount::default(), Amount::default(), cap));
        let all = purses.iter().fold(Amount::default(), |sum, purse| sum.plus(purse.spent));
        let books =
            server.query(&format!("account{seed}"), "SELECT calls, tokens, nanos, held_calls FROM divvy.account");
        assert_eq!(books, format!("{}|{}|{}|0", all.calls, all.tokens, all.nanos));
        assert!(all.calls == cap.calls || all.nanos > cap.nanos * 9 / 10, "much was left: {all:?}");
    }
}

#[test]
fn what_a_worker_that_vanished_held_is_counted_as_spent() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database("vanished");
    let one = Amount { calls: 1, tokens: 10, nanos: 10 };
    let exchange = |turn, calls| Exchange {
        turn,
        need: Amount { calls, ..one },
        caps: [Some(10), None, None],
        ..Exchange::default()
    };
    let gone = Worker::new(&url, SHORT);
    assert!(gone.run(gone.store.borrow(&plan(), &exchange(1, 4))).unwrap().granted);
    let other = Worker::new(&url, LONG);
    let refused = other.run(other.store.borrow(&plan(), &exchange(1, 7))).unwrap();
    assert!(!refused.granted && refused.others, "{refused:?}");
    std::thread::sleep(2 * SHORT);
    let refused = other.run(other.store.borrow(&plan(), &exchange(2, 7))).unwrap();
    assert!(!refused.granted && !refused.others && refused.lost.calls == 4, "{refused:?}");
    assert!(other.run(other.store.borrow(&plan(), &exchange(3, 6))).unwrap().granted);
}

#[test]
fn what_a_plan_has_spent_is_told_apart_from_what_went_with_a_worker() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database("spending");
    let amount = |calls, tokens, nanos| Amount { calls, tokens, nanos };
    let (gone, other) = (Worker::new(&url, SHORT), Worker::new(&url, LONG));
    let spending = || other.run(other.store.spending(&plan())).unwrap();
    assert_eq!(spending(), Spending::default(), "nobody has borrowed");
    let lend = |worker: &Worker, turn, spent, need| {
        let exchange = Exchange { turn, spent, need, ..Exchange::default() };
        assert!(worker.run(worker.store.borrow(&plan(), &exchange)).unwrap().granted);
    };
    lend(&other, 1, Amount::default(), amount(2, 20, 200));
    lend(&other, 2, amount(2, 15, 150), amount(5, 50, 500));
    lend(&gone, 1, Amount::default(), amount(3, 30, 300));
    lend(&gone, 2, amount(1, 9, 90), amount(4, 40, 400));
    std::thread::sleep(2 * SHORT);
    let told = Spending { spent: amount(3, 24, 240), lost: amount(4, 40, 400) };
    assert_eq!(spending(), told, "what a living worker holds is neither");
    assert_eq!(other.run(other.store.spending(&key(9))).unwrap(), Spending::default(), "another plan's is its own");
}
