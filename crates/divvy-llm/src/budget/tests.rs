use divvy_store::SqliteStore;

use super::*;

/// Killed between a reply on disk and its record.
#[tokio::test]
async fn what_came_back_is_not_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (path, plan) = (directory.path().join("store.db"), Digest::of_bytes(b"plan"));
    let store = SqliteStore::open(&path).await.unwrap();
    let budget = Budget::kept(Caps::default(), Spending::default(), store.purse(&plan).await.unwrap());
    let costs = [Amount { calls: 1, tokens: 10, nanos: 3 }, Amount { calls: 1, tokens: 20, nanos: 5 }];
    let held = costs.map(Held::new);
    for held in &held {
        budget.goes_out(&plan, held, false).await.unwrap();
    }
    held.iter().for_each(|held| budget.came_back(held));
    drop(budget);
    store.close().await.unwrap();
    let told = SqliteStore::open(&path).await.unwrap().spending(&plan).await.unwrap();
    assert_eq!(told, Spending { spent: costs[0].plus(costs[1]), lost: Amount::default() });
}
