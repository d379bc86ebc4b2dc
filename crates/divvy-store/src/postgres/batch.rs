//! Many writes as a few statements: the rows of one table go as arrays, a column each. Rows are sorted by their keys, so
//! that two workers which write the same ones wait for each other in one order.

use std::collections::{BTreeMap, BTreeSet};

use divvy_core::{chat::Usage, digest::Digest};
use sqlx::PgConnection;

use super::{
    body::{Body, digest_of},
    leases::{Token, Worker},
};
use crate::{
    codec::{blob, blobs, finish_text, state_text},
    rows::{Amount, AttemptRecord, CallRecord, ItemRow, RawReply},
};

/// What one caller wants to have written, all or nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Write {
    pub(super) bodies: Vec<Body>,
    pub(super) raws: Vec<Raw>,
    pub(super) calls: Vec<Call>,
    pub(super) attempts: Vec<AttemptRecord>,
    pub(super) booked: Vec<Booked>,
    /// With the token under which it was worked on, where there is one.
    pub(super) items: Vec<(ItemRow, Option<Token>)>,
}

/// What a try cost its plan.
#[derive(Clone, Debug)]
pub(super) struct Booked {
    pub(super) plan: Digest,
    pub(super) key: Digest,
    pub(super) cost: Amount,
}

#[derive(Clone, Debug)]
pub(super) struct Raw {
    reply: RawReply,
    body: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(super) struct Call {
    call: CallRecord,
    request: Vec<u8>,
    reply: Vec<u8>,
    raw: Option<Vec<u8>>,
}

impl Write {
    /// Keeps the bytes, and returns what to refer to them by.
    fn body(&mut self, bytes: &[u8]) -> Vec<u8> {
        let body = Body::of(bytes);
        let digest = body.digest.clone();
        self.bodies.push(body);
        digest
    }

    pub(super) fn raw(mut self, reply: &RawReply) -> Self {
        let body = self.body(&reply.bytes);
        let reply = RawReply { bytes: Vec::new(), ..reply.clone() };
        self.raws.push(Raw { reply, body });
        self
    }

    /// `raw_is_kept`: the raw reply was written before, as every reply from a wire is.
    pub(super) fn call(mut self, call: &CallRecord, raw_is_kept: bool) -> Self {
        let (request, reply) = (self.body(call.request_json.as_bytes()), self.body(call.reply.text.as_bytes()));
        let raw = match call.raw_reply.is_empty() {
            true => None,
            false if raw_is_kept => Some(digest_of(&call.raw_reply)),
            false => Some(self.body(&call.raw_reply)),
        };
        self.calls.push(Call { call: call.clone(), request, reply, raw });
        self
    }

    pub(super) fn attempt(mut self, attempt: &AttemptRecord) -> Self {
        self.attempts.push(attempt.clone());
        self
    }

    pub(super) fn booked(mut self, booked: Booked) -> Self {
        self.booked.push(booked);
        self
    }
}

/// The rows of many writes, table by table.
pub(super) struct Batch<'w> {
    writes: &'w [Write],
    bodies: BTreeMap<&'w [u8], &'w Body>,
    raws: Vec<&'w Raw>,
    calls: BTreeMap<&'w Digest, &'w Call>,
    attempts: Vec<&'w AttemptRecord>,
    booked: Vec<&'w Booked>,
}

/// An item of a batch: its write, and its place in it.
type Place = (usize, usize);
type Unit<'w> = (&'w Digest, &'static str, &'w str, u32, &'w str);

impl<'w> Batch<'w> {
    pub(super) fn of(writes: &'w [Write]) -> Self {
        let mut calls = BTreeMap::new();
        for call in writes.iter().flat_map(|write| &write.calls) {
            calls.entry(&call.call.key).or_insert(call);
        }
        let bodies = writes.iter().flat_map(|write| &write.bodies);
        Self {
            writes,
            bodies: bodies.map(|body| (&body.digest[..], body)).collect(),
            raws: writes.iter().flat_map(|write| &write.raws).collect(),
            calls,
            attempts: writes.iter().flat_map(|write| &write.attempts).collect(),
            booked: writes.iter().flat_map(|write| &write.booked).collect(),
        }
    }

    /// For a batch that turns out to be committed: nobody remembers which of its outcomes came late.
    pub(super) fn all_put(&self) -> Vec<Vec<bool>> {
        self.writes.iter().map(|write| vec![true; write.items.len()]).collect()
    }

    /// Which items were put, by write.
    pub(super) async fn write(
        &self,
        connection: &mut PgConnection,
        worker: Worker,
    ) -> Result<Vec<Vec<bool>>, sqlx::Error> {
        self.write_bodies(connection).await?;
        self.write_raws(connection).await?;
        self.write_calls(connection).await?;
        self.write_attempts(connection).await?;
        self.land(connection, worker).await?;
        let mut put: Vec<Vec<bool>> = self.writes.iter().map(|write| vec![false; write.items.len()]).collect();
        for round in self.rounds() {
            for (write, item) in self.write_items(connection, worker, &round).await? {
                put[write][item] = true;
            }
        }
        Ok(put)
    }

    async fn write_bodies(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.bodies.is_empty() {
            return Ok(());
        }
        let bodies = || self.bodies.values();
        sqlx::query(
            "INSERT INTO body (digest, length, encoding, bytes)
             SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::text[], $4::bytea[]) ON CONFLICT DO NOTHING",
        )
        .bind(bodies().map(|body| &body.digest[..]).collect::<Vec<_>>())
        .bind(bodies().map(|body| body.length).collect::<Vec<_>>())
        .bind(bodies().map(|body| body.encoding).collect::<Vec<_>>())
        .bind(bodies().map(|body| &body.bytes[..]).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map(drop)
    }

    async fn write_raws(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.raws.is_empty() {
            return Ok(());
        }
        let raws = || self.raws.iter();
        sqlx::query(
            "INSERT INTO raw_reply (key, number, body, endpoint, received_ms, took_ms)
             SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::text[], $5::bigint[], $6::bigint[])",
        )
        .bind(raws().map(|raw| blob(&raw.reply.key)).collect::<Vec<_>>())
        .bind(raws().map(|raw| i64::from(raw.reply.number)).collect::<Vec<_>>())
        .bind(raws().map(|raw| &raw.body[..]).collect::<Vec<_>>())
        .bind(raws().map(|raw| raw.reply.endpoint.as_deref()).collect::<Vec<_>>())
        .bind(raws().map(|raw| raw.reply.received_ms).collect::<Vec<_>>())
        .bind(raws().map(|raw| raw.reply.latency_ms).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map(drop)
    }

    async fn land(&self, connection: &mut PgConnection, worker: Worker) -> Result<(), sqlx::Error> {
        if self.calls.is_empty() && self.booked.is_empty() {
            return Ok(());
        }
        let calls: Vec<&Digest> = self.calls.keys().copied().collect();
        worker.land(connection, &calls, &self.booked).await
    }

    async fn write_calls(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.calls.is_empty() {
            return Ok(());
        }
        let calls = || self.calls.values();
        let usages = || calls().map(|call| &call.call.reply.usage);
        sqlx::query(
            "INSERT INTO call (key, model_name, model_id, request, reply, raw, finish, tokens_in, tokens_cached, tokens_out,
                               price_nanos, latency_ms, created_ms, endpoint, worked_us)
             SELECT * FROM unnest($1::bytea[], $2::text[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[], $7::text[],
                                  $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[],
                                  $14::text[], $15::bigint[])
             ON CONFLICT (key) DO NOTHING",
        )
        .bind(calls().map(|call| blob(&call.call.key)).collect::<Vec<_>>())
        .bind(calls().map(|call| &call.call.model_name[..]).collect::<Vec<_>>())
        .bind(calls().map(|call| blob(&call.call.model_id)).collect::<Vec<_>>())
        .bind(calls().map(|call| &call.request[..]).collect::<Vec<_>>())
        .bind(calls().map(|call| &call.reply[..]).collect::<Vec<_>>())
        .bind(calls().map(|call| call.raw.as_deref()).collect::<Vec<_>>())
        .bind(calls().map(|call| plain(&finish_text(&call.call.reply.finish))).collect::<Vec<_>>())
        .bind(column(usages(), |usage| usage.tokens_in))
        .bind(column(usages(), |usage| usage.tokens_cached))
        .bind(column(usages(), |usage| usage.tokens_out))
        .bind(calls().map(|call| call.call.price_nanos).collect::<Vec<_>>())
        .bind(calls().map(|call| call.call.latency_ms).collect::<Vec<_>>())
        .bind(calls().map(|call| call.call.created_ms).collect::<Vec<_>>())
        .bind(calls().map(|call| call.call.endpoint.as_deref()).collect::<Vec<_>>())
        .bind(calls().map(|call| call.call.worked_us).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map(drop)
    }

    async fn write_attempts(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.attempts.is_empty() {
            return Ok(());
        }
        let attempts = || self.attempts.iter();
        let usages = || attempts().map(|attempt| &attempt.usage);
        sqlx::query(
            "INSERT INTO attempt (key, number, outcome, http_status, message, tokens_in, tokens_cached, tokens_out,
                                  price_nanos, started_ms, latency_ms)
             SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[],
                                  $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[])",
        )
        .bind(attempts().map(|attempt| blob(&attempt.key)).collect::<Vec<_>>())
        .bind(attempts().map(|attempt| i64::from(attempt.number)).collect::<Vec<_>>())
        .bind(attempts().map(|attempt| &attempt.outcome[..]).collect::<Vec<_>>())
        .bind(attempts().map(|attempt| attempt.http_status.map(i64::from)).collect::<Vec<_>>())
        .bind(attempts().map(|attempt| plain(&attempt.message)).collect::<Vec<_>>())
        .bind(column(usages(), |usage| usage.tokens_in))
        .bind(column(usages(), |usage| usage.tokens_cached))
        .bind(column(usages(), |usage| usage.tokens_out))
        .bind(attempts().map(|attempt| attempt.price_nanos).collect::<Vec<_>>())
        .bind(attempts().map(|attempt| attempt.started_ms).collect::<Vec<_>>())
        .bind(attempts().map(|attempt| attempt.latency_ms).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map(drop)
    }

    /// Items in their order, but for the same one again, which a statement cannot put twice.
    fn rounds(&self) -> Vec<Vec<Place>> {
        let mut rounds: Vec<BTreeMap<Unit<'w>, Place>> = Vec::new();
        for (at, write) in self.writes.iter().enumerate() {
            for (item_at, (item, _)) in write.items.iter().enumerate() {
                let unit = unit(item);
                let free = rounds.iter().rposition(|round| round.contains_key(&unit)).map_or(0, |taken| taken + 1);
                if free == rounds.len() {
                    rounds.push(BTreeMap::new());
                }
                rounds[free].insert(unit, (at, item_at));
            }
        }
        rounds.into_iter().map(|round| round.into_values().collect()).collect()
    }

    /// An outcome with a token is put only if its worker still holds the item under this token.
    async fn write_items(
        &self,
        connection: &mut PgConnection,
        worker: Worker,
        round: &[Place],
    ) -> Result<BTreeSet<Place>, sqlx::Error> {
        let items = || round.iter().map(|(write, item)| &self.writes[*write].items[*item].0);
        let tokens = round.iter().map(|(write, item)| self.writes[*write].items[*item].1.map(|token| token.0));
        let put: Vec<i64> = sqlx::query_scalar(
            "WITH new AS (
                 SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[],
                                      $8::text[], $9::bytea[], $10::bigint[], $11::bigint[]) WITH ORDINALITY
                     AS n (plan, stage, question, sample, arm, state, reason, payload, calls, updated_ms, token, place)
             ), put AS (
                 INSERT INTO item (plan, stage, question, sample, arm, state, reason, payload, calls, updated_ms, seq,
                                   worker, token)
                 SELECT plan, stage, question, sample, arm, state, reason, payload, calls, updated_ms, nextval('item_seq'),
                        CASE WHEN token IS NOT NULL THEN $12::bigint END, token
                 FROM new ORDER BY place
                 ON CONFLICT (plan, stage, question, sample, arm) DO UPDATE
                     SET state = excluded.state, reason = excluded.reason, payload = excluded.payload,
                         calls = excluded.calls, updated_ms = excluded.updated_ms, seq = excluded.seq,
                         worker = CASE WHEN excluded.token IS NULL THEN item.worker END,
                         token = CASE WHEN excluded.token IS NULL THEN item.token END
                     WHERE excluded.token IS NULL
                         OR (excluded.token, excluded.worker) IS NOT DISTINCT FROM (item.token, item.worker)
                 RETURNING plan, stage, question, sample, arm, seq
             ), history AS (
                 INSERT INTO item_history (seq, plan, stage, question, sample, arm, state, reason, payload, calls, updated_ms)
                 SELECT put.seq, plan, stage, question, sample, arm, state, reason, payload, calls, updated_ms
                 FROM new JOIN put USING (plan, stage, question, sample, arm)
             )
             SELECT place FROM new JOIN put USING (plan, stage, question, sample, arm)",
        )
        .bind(items().map(|item| blob(&item.plan)).collect::<Vec<_>>())
        .bind(items().map(|item| item.stage.name()).collect::<Vec<_>>())
        .bind(items().map(|item| &item.question.0[..]).collect::<Vec<_>>())
        .bind(items().map(|item| i64::from(item.sample)).collect::<Vec<_>>())
        .bind(items().map(|item| &item.arm[..]).collect::<Vec<_>>())
        .bind(items().map(|item| state_text(&item.state).0).collect::<Vec<_>>())
        .bind(items().map(|item| state_text(&item.state).1).collect::<Vec<_>>())
        .bind(items().map(|item| &item.payload_json[..]).collect::<Vec<_>>())
        .bind(items().map(|item| blobs(&item.calls)).collect::<Vec<_>>())
        .bind(items().map(|item| item.updated_ms).collect::<Vec<_>>())
        .bind(tokens.collect::<Vec<_>>())
        .bind(worker.id)
        .fetch_all(connection)
        .await?;
        Ok(put.into_iter().filter_map(|place| round.get(usize::try_from(place - 1).ok()?).copied()).collect())
    }
}

fn unit(item: &ItemRow) -> Unit<'_> {
    (&item.plan, item.stage.name(), &item.question.0, item.sample, &item.arm)
}

fn column<'u>(usages: impl Iterator<Item = &'u Usage>, of: fn(&Usage) -> Option<u64>) -> Vec<Option<i64>> {
    usages.map(|usage| of(usage).map(|tokens| i64::try_from(tokens).unwrap_or(i64::MAX))).collect()
}

/// A text on the server has no NUL; in what an endpoint says of itself nobody misses it.
fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
