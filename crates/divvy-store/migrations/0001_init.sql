-- Everything a run pays for or decides. Rows are appended, never changed, but for run.ended_ms and run.status.
-- Digests are 32-byte blobs; money is nano-dollars; time is milliseconds since 1970 UTC. NULL is "unknown", never zero.

CREATE TABLE body (
    digest   BLOB PRIMARY KEY,           -- BLAKE3 of the bytes before compression
    length   INTEGER NOT NULL,           -- before compression
    encoding TEXT NOT NULL CHECK (encoding IN ('plain', 'zstd')),
    bytes    BLOB NOT NULL
) STRICT;

CREATE TABLE call (
    key           BLOB PRIMARY KEY,
    model_name    TEXT NOT NULL,
    model_id      BLOB NOT NULL,
    request       BLOB NOT NULL REFERENCES body (digest),
    reply         BLOB NOT NULL REFERENCES body (digest),
    raw           BLOB REFERENCES body (digest),
    finish        TEXT NOT NULL,
    tokens_in     INTEGER,
    tokens_cached INTEGER,
    tokens_out    INTEGER,
    price_nanos   INTEGER,
    latency_ms    INTEGER NOT NULL,
    created_ms    INTEGER NOT NULL,
    endpoint      TEXT
) STRICT;
CREATE INDEX call_by_time ON call (created_ms);

-- A reply as received, written before anything reads it. A call has one at least once it came over a wire.
CREATE TABLE raw_reply (
    seq         INTEGER PRIMARY KEY,
    key         BLOB NOT NULL,
    number      INTEGER NOT NULL,
    body        BLOB NOT NULL REFERENCES body (digest),
    endpoint    TEXT,
    received_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX raw_reply_by_key ON raw_reply (key);

CREATE TABLE attempt (
    seq           INTEGER PRIMARY KEY,
    key           BLOB NOT NULL,
    number        INTEGER NOT NULL,
    outcome       TEXT NOT NULL,
    http_status   INTEGER,
    message       TEXT NOT NULL,
    tokens_in     INTEGER,
    tokens_cached INTEGER,
    tokens_out    INTEGER,
    started_ms    INTEGER NOT NULL,
    latency_ms    INTEGER NOT NULL
) STRICT;
CREATE INDEX attempt_by_key ON attempt (key);

CREATE TABLE plan (
    digest BLOB PRIMARY KEY,
    json   TEXT NOT NULL
) STRICT;

CREATE TABLE run (
    id         INTEGER PRIMARY KEY,
    plan       BLOB NOT NULL REFERENCES plan (digest),
    name       TEXT NOT NULL,
    version    TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    ended_ms   INTEGER,
    status     TEXT NOT NULL
) STRICT;

CREATE TABLE stage_time (
    seq     INTEGER PRIMARY KEY,
    plan    BLOB NOT NULL REFERENCES plan (digest),
    stage   TEXT NOT NULL,
    wall_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE question (
    id   TEXT PRIMARY KEY,
    json TEXT NOT NULL
) STRICT;

-- History of every item; the last row of an item is its state (item_now).
CREATE TABLE item (
    seq        INTEGER PRIMARY KEY,
    plan       BLOB NOT NULL REFERENCES plan (digest),
    stage      TEXT NOT NULL,
    question   TEXT NOT NULL,
    sample     INTEGER NOT NULL,
    arm        TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('pending', 'done', 'failed', 'rejected')),
    reason     TEXT,
    payload    TEXT NOT NULL,
    calls      BLOB NOT NULL,            -- call keys, 32 bytes each, in order
    updated_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX item_by_unit ON item (plan, stage, question, sample, arm, seq);
CREATE VIEW item_now AS
    SELECT * FROM item WHERE seq IN (SELECT max(seq) FROM item GROUP BY plan, stage, question, sample, arm);

CREATE TABLE artefact (
    seq        INTEGER PRIMARY KEY,
    key        BLOB NOT NULL,
    kind       TEXT NOT NULL,
    path       TEXT NOT NULL,
    meta       TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX artefact_by_key ON artefact (key, seq);

CREATE TABLE metric (
    key   BLOB NOT NULL,
    step  INTEGER NOT NULL,
    point TEXT NOT NULL,
    PRIMARY KEY (key, step)
) STRICT;

CREATE TABLE test_opening (
    seq       INTEGER PRIMARY KEY,
    plan      BLOB NOT NULL REFERENCES plan (digest),
    dataset   TEXT NOT NULL,
    rows      INTEGER NOT NULL,
    opened_ms INTEGER NOT NULL
) STRICT;
