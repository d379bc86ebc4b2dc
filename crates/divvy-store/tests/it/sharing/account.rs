//! The account that workers have in common.

use divvy_store::{Amount, Departure, Exchange, Spending};
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

const fn amount(calls: i64, tokens: i64, nanos: i64) -> Amount {
    Amount { calls, tokens, nanos }
}

impl Worker {
    /// Books what was spent, keeps what is reserved, and asks for so many calls under a cap of ten.
    fn borrow(&self, turn: i64, spent: Amount, keep: Amount, calls: i64) -> divvy_store::Borrowed {
        let caps = [Some(10), None, None];
        let exchange =
            Exchange { turn, spent, keep, need: amount(calls, 10 * calls, 10 * calls), caps, ..Exchange::default() };
        self.run(self.store.borrow(&plan(), &exchange)).unwrap()
    }

    fn go_out(&self, number: u32) -> Departure {
        self.run(self.store.go_out(&plan(), &key(number), amount(1, 10, 100), true)).unwrap()
    }

    /// Its try came to nothing, and cost this.
    fn comes_back(&self, number: u32, cost: Amount) {
        self.run(self.store.book(&plan(), &key(number), cost, None, Some(&super::attempt(number)))).unwrap();
    }

    fn spending(&self) -> Spending {
        self.run(self.store.spending(&plan())).unwrap()
    }
}

const NONE: Amount = amount(0, 0, 0);

#[test]
fn of_a_worker_that_vanished_what_it_spent_and_had_out_counts_and_the_rest_is_free() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database("vanished");
    let (gone, other) = (Worker::new(&url, SHORT), Worker::new(&url, LONG));
    assert!(gone.borrow(1, NONE, NONE, 6).granted);
    // One is back and not booked, two are out, three were never sent.
    assert!((1..=3).all(|number| gone.go_out(number) == Departure::Out));
    gone.comes_back(1, amount(1, 7, 70));
    let refused = other.borrow(1, NONE, NONE, 5);
    assert!(!refused.granted && refused.others, "it may come back: {refused:?}");
    std::thread::sleep(2 * SHORT);
    let refused = other.borrow(2, NONE, NONE, 8);
    assert!(!refused.granted && !refused.others, "{refused:?}");
    assert_eq!((refused.total, refused.lost), (amount(1, 7, 70), amount(2, 20, 200)));
    assert!(other.borrow(3, NONE, NONE, 7).granted, "seven of ten are left");
    assert!(!other.borrow(4, NONE, amount(7, 70, 70), 1).granted, "and no more");
    assert_eq!(other.spending(), Spending { spent: amount(1, 7, 70), lost: amount(2, 20, 200) });
}

/// It stood still for a lease, and others were lent what it held.
#[test]
fn a_worker_that_comes_back_sends_nothing_that_others_were_lent() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database("back");
    let (silent, other) = (Worker::new(&url, SHORT), Worker::new(&url, LONG));
    assert!(silent.borrow(1, NONE, NONE, 6).granted);
    assert_eq!(silent.go_out(1), Departure::Out);
    std::thread::sleep(2 * SHORT);
    assert!(other.borrow(1, NONE, NONE, 9).granted);
    assert_eq!(other.spending().lost, amount(1, 10, 100));
    assert_eq!(silent.go_out(2), Departure::Unlent);
    // What it has out was counted all the time, and two more that it has reserved do not fit.
    let refused = silent.borrow(2, NONE, amount(3, 30, 300), 0);
    assert!(!refused.granted && silent.go_out(2) == Departure::Unlent, "{refused:?}");
    assert!(silent.borrow(3, NONE, amount(1, 10, 100), 0).granted);
    silent.comes_back(1, amount(1, 8, 80));
    assert_eq!(other.spending(), Spending { spent: amount(1, 8, 80), lost: NONE }, "it was only late");
    assert!(!other.borrow(2, NONE, amount(9, 90, 90), 1).granted, "its one and nine are ten");
    assert!(other.borrow(3, amount(9, 90, 90), NONE, 0).granted);
    assert!(silent.borrow(4, amount(1, 8, 80), NONE, 0).granted);
    assert_eq!(other.spending(), Spending { spent: amount(10, 98, 170), lost: NONE }, "each is booked once");
}

#[test]
fn who_takes_a_request_over_forgets_nothing_and_each_try_counts() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database("taken_over");
    let (first, second, third) = (Worker::new(&url, SHORT), Worker::new(&url, SHORT), Worker::new(&url, LONG));
    let claim = |worker: &Worker| assert!(worker.run(worker.store.claim_call(&key(5))).unwrap());
    claim(&first);
    // As if the answer had been lost: it goes out once. Its first try is charged, its second never comes back.
    assert_eq!([first.go_out(5), first.go_out(5)], [Departure::Out; 2]);
    first.comes_back(5, amount(1, 4, 40));
    assert_eq!(first.go_out(5), Departure::Out);
    std::thread::sleep(2 * SHORT);
    claim(&second);
    assert_eq!(second.go_out(5), Departure::Out);
    std::thread::sleep(2 * SHORT);
    claim(&third);
    assert_eq!(third.go_out(5), Departure::Out);
    let lost = amount(2, 20, 200);
    assert_eq!(third.spending(), Spending { spent: amount(1, 4, 40), lost });
    let (call, attempt) = (crate::call(5), super::attempt(5));
    third.run(third.store.book(&plan(), &key(5), amount(1, 9, 90), Some(&call), Some(&attempt))).unwrap();
    assert_eq!(third.run(third.store.call(&key(5))).unwrap(), Some(call));
    assert_eq!(third.spending(), Spending { spent: amount(2, 13, 130), lost });
    assert_eq!(server.query("taken_over", "SELECT count(*) FROM divvy.flight"), "0");
    assert_eq!(server.query("taken_over", "SELECT count(*) FROM divvy.outstanding"), "2", "the lost ones");
    third.run(third.store.close()).unwrap();
    let other = Worker::new(&url, LONG);
    assert_eq!(other.spending(), Spending { spent: amount(2, 13, 130), lost }, "who leaves has lost nothing");
    let elsewhere = other.run(other.store.spending(&key(9))).unwrap();
    assert_eq!(elsewhere, Spending::default(), "another plan's is its own");
    assert_eq!([first.go_out(5), second.go_out(5)], [Departure::Replied; 2], "who stood still finds the reply");
    assert!(other.run(other.store.claim_call(&key(6))).unwrap());
    assert_eq!(
        [first.go_out(6), second.go_out(6)],
        [Departure::Taken; 2],
        "nor does he send what another has taken over"
    );
    assert_eq!(other.go_out(6), Departure::Out);
}

#[test]
fn what_has_a_reply_that_nobody_has_read_does_not_go_out() {
    let Some(server) = Postgres::start() else { return };
    let worker = Worker::new(&server.database("unread"), LONG);
    let raw = divvy_store::RawReply {
        key: key(5),
        number: 1,
        bytes: vec![1],
        endpoint: None,
        received_ms: 1,
        latency_ms: None,
    };
    worker.run(worker.store.record_raw(&raw)).unwrap();
    assert_eq!((worker.go_out(5), worker.go_out(6)), (Departure::Replied, Departure::Out));
    let anyway = worker.run(worker.store.go_out(&plan(), &key(5), amount(1, 10, 100), false));
    assert_eq!(anyway.unwrap(), Departure::Out);
}

/// A worker that is declared dead and goes on all the same, in any order.
struct Member {
    worker: Worker,
    turn: i64,
    dead: bool,
    /// Calls that it may send, as far as it knows.
    holds: i64,
    out: Vec<u32>,
    unbooked: i64,
}

impl Member {
    fn exchange(&mut self, calls: i64) -> bool {
        self.turn += 1;
        let (spent, keep) = (amount(self.unbooked, 0, 0), amount(self.out.len() as i64, 0, 0));
        let answer = self.worker.borrow(self.turn, spent, keep, calls);
        self.unbooked = 0;
        self.holds = if answer.granted { answer.holds.calls - keep.calls } else { 0 };
        answer.granted
    }

    fn send(&mut self, number: u32) {
        match self.worker.go_out(number) {
            Departure::Out => {
                self.out.push(number);
                self.holds -= 1;
            }
            _ => self.holds = 0,
        }
    }

    fn hear(&mut self) -> i64 {
        let Some(number) = self.out.pop() else { return 0 };
        self.worker.comes_back(number, amount(1, 0, 0));
        self.unbooked += 1;
        1
    }

    /// By the server's clock, which a test cannot set.
    fn is_dead(&mut self, server: &Postgres, database: &str, number: usize, dead: bool) {
        let lease = if dead { "lease = '0', expires = '-infinity'" } else { "lease = '1 h', expires = now() + '1 h'" };
        let told = server.query(database, &format!("UPDATE divvy.worker SET {lease} WHERE id = {}", number + 1));
        assert_eq!(told, "");
        self.dead = dead;
    }
}

#[test]
fn no_death_and_no_return_spends_more_than_the_cap() {
    let Some(server) = Postgres::start() else { return };
    for seed in 0..4 {
        let database = format!("deaths{seed}");
        let url = server.database(&database);
        let member =
            || Member { worker: Worker::new(&url, LONG), turn: 0, dead: false, holds: 0, out: Vec::new(), unbooked: 0 };
        let (mut state, mut members, mut heard, mut unlent) = (seed, [member(), member(), member()], 0, 0);
        for number in 0..150 {
            let at = random(&mut state, 3) as usize;
            let member = &mut members[at];
            match random(&mut state, 6) {
                0 => member.is_dead(&server, &database, at, !member.dead),
                1 => _ = member.exchange(1),
                2 => heard += member.hear(),
                _ if member.holds > 0 => {
                    member.send(number);
                    unlent += usize::from(member.holds == 0 && !member.out.contains(&number));
                }
                _ => {}
            }
            let out: usize = members.iter().map(|member| member.out.len()).sum();
            assert!(heard + out as i64 <= 10, "{heard} heard and {out} out after {number} steps of {seed}");
        }
        for (at, member) in members.iter_mut().enumerate() {
            member.is_dead(&server, &database, at, false);
            while !member.out.is_empty() {
                heard += member.hear();
            }
            member.exchange(0);
        }
        let spent = members[0].worker.spending();
        assert_eq!((spent.spent.calls, spent.lost), (heard, NONE));
        let books =
            server.query(&database, "SELECT calls, (SELECT sum(unbooked_calls) FROM divvy.slice) FROM divvy.account");
        assert_eq!(books, format!("{heard}|0"));
        assert!(heard == 10 && (seed > 0 || unlent > 0), "{heard} heard, {unlent} refused");
    }
}

/// What the step that made this of it finds on a server where workers vanished before.
#[test]
fn what_earlier_workers_took_along_stays_lost() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database("earlier");
    let (gone, other) = (Worker::new(&url, SHORT), Worker::new(&url, LONG));
    assert!(gone.borrow(1, NONE, NONE, 4).granted);
    std::thread::sleep(2 * SHORT);
    let step = include_str!("../../../migrations-postgres/0006_outstanding.sql");
    let moved = step.split_once("INSERT INTO outstanding").unwrap().1.split_once("CREATE FUNCTION").unwrap().0;
    let moved = server.query("earlier", &format!("SET search_path = divvy; INSERT INTO outstanding{moved}"));
    assert_eq!(moved, "");
    assert_eq!(other.spending(), Spending { spent: NONE, lost: amount(4, 40, 40) });
    assert!(!other.borrow(1, NONE, NONE, 7).granted && other.borrow(2, NONE, NONE, 6).granted);
}
