//! Money and rates that workers share. What a worker may spend or send is lent to it in slices, one round trip each; the
//! sums are on the server, and no order of events lets them grow beyond the cap. What is out at an endpoint stands there
//! before it goes: of a worker that vanished it is known what was lost, and the rest of what it held is free.

use std::time::Duration;

use divvy_core::digest::Digest;
use sqlx::{Row, postgres::PgRow};

use super::PostgresStore;
use crate::{
    codec::blob,
    error::StoreError,
    rows::{Amount, Borrowed, Departure, Exchange, Lent, LentBefore, Share, Spending},
};

impl PostgresStore {
    /// Books what was spent, keeps what calls in flight have reserved, and borrows what the next call needs.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn borrow(&self, plan: &Digest, exchange: &Exchange) -> Result<Borrowed, StoreError> {
        let worker = self.worker()?;
        let rows = self
            .sure(|| {
                sqlx::query("SELECT * FROM borrow($1, $2, $3, $4, $5, $6, $7, $8)")
                    .bind(blob(plan))
                    .bind(worker.id)
                    .bind(exchange.turn)
                    .bind(exchange.spent.columns())
                    .bind(exchange.keep.columns())
                    .bind(exchange.need.columns())
                    .bind(exchange.more.columns())
                    .bind(exchange.caps)
            })
            .await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound);
        row.and_then(borrowed).map_err(|e| self.unreadable(&e))
    }

    /// Says that a try goes out now which may cost so much at most. With `unless_replied` it does not where a reply to its
    /// request is there that nobody has read.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn go_out(
        &self,
        plan: &Digest,
        key: &Digest,
        most: Amount,
        unless_replied: bool,
    ) -> Result<Departure, StoreError> {
        let worker = self.worker()?;
        let rows = self
            .read(|| {
                sqlx::query("SELECT go_out($1, $2, $3, $4, $5) AS told")
                    .bind(blob(plan))
                    .bind(worker.id)
                    .bind(blob(key))
                    .bind(most.columns())
                    .bind(unless_replied)
            })
            .await?;
        let told = rows.first().map_or(Err(sqlx::Error::RowNotFound), |row| row.try_get::<String, _>("told"));
        Ok(match told.map_err(|e| self.unreadable(&e))?.as_str() {
            "replied" => Departure::Replied,
            "unlent" => Departure::Unlent,
            "taken" => Departure::Taken,
            _ => Departure::Out,
        })
    }

    /// See [`crate::Store::spending`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn spending(&self, plan: &Digest) -> Result<Spending, StoreError> {
        let rows = self
            .read(|| {
                sqlx::query(
                    "SELECT ARRAY[sum(calls), least(sum(tokens), 1::bigint << 62), least(sum(nanos), 1::bigint << 62)]::BIGINT[]
                         AS spent, lost_of($1) AS lost
                     FROM (SELECT 0 AS calls, 0 AS tokens, 0 AS nanos
                           UNION ALL SELECT calls, tokens, nanos FROM account WHERE plan = $1
                           UNION ALL SELECT unbooked_calls, unbooked_tokens, unbooked_nanos FROM slice WHERE plan = $1) s",
                )
                .bind(blob(plan))
            })
            .await?;
        rows.first().map_or(Ok(Spending::default()), spending).map_err(|e| self.unreadable(&e))
    }

    /// Asks for a share of what an endpoint takes in the window that ends now.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn lend(&self, lane: &str, share: &Share, before: &[LentBefore]) -> Result<Lent, StoreError> {
        let column = |of: fn(&LentBefore) -> i64| before.iter().map(of).collect::<Vec<i64>>();
        let rows = self
            .sure(|| {
                sqlx::query("SELECT * FROM lend($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)")
                    .bind(lane)
                    .bind(i64::try_from(share.window.as_millis()).unwrap_or(i64::MAX))
                    .bind(share.most_requests)
                    .bind(share.most_tokens)
                    .bind(share.want_requests)
                    .bind(share.need_tokens)
                    .bind(share.want_tokens)
                    .bind(column(|lent| lent.id))
                    .bind(column(|lent| lent.requests))
                    .bind(column(|lent| lent.tokens))
            })
            .await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound);
        row.and_then(lent).map_err(|e| self.unreadable(&e))
    }
}

fn amount(row: &PgRow, column: &str) -> Result<Amount, sqlx::Error> {
    let [calls, tokens, nanos] = row.try_get(column)?;
    Ok(Amount { calls, tokens, nanos })
}

fn spending(row: &PgRow) -> Result<Spending, sqlx::Error> {
    Ok(Spending { spent: amount(row, "spent")?, lost: amount(row, "lost")? })
}

fn borrowed(row: &PgRow) -> Result<Borrowed, sqlx::Error> {
    Ok(Borrowed {
        granted: row.try_get("granted")?,
        holds: amount(row, "holds")?,
        total: amount(row, "total")?,
        lost: amount(row, "lost")?,
        others: row.try_get("others")?,
    })
}

fn lent(row: &PgRow) -> Result<Lent, sqlx::Error> {
    let wait: Option<i64> = row.try_get("wait_ms")?;
    Ok(match wait {
        Some(ms) => Lent::Wait(Duration::from_millis(u64::try_from(ms).unwrap_or(0))),
        None => Lent::Some(LentBefore {
            id: row.try_get("id")?,
            requests: row.try_get("requests")?,
            tokens: row.try_get("tokens")?,
        }),
    })
}
