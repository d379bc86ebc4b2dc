-- A call is two rows that are appended: the reply as it was received, then what was read from it, under the same number.
-- Bodies stand in the row. No key is indexed here: the one process that writes knows all keys (`keys`), and an index of
-- hashes would have every commit write pages all over the file.

-- Texts that come again and again: names of models, their identities, endpoints.
CREATE TABLE word (
    id   INTEGER PRIMARY KEY,
    text TEXT NOT NULL
) STRICT;

CREATE TABLE reply (
    seq         INTEGER PRIMARY KEY,
    key         BLOB NOT NULL,
    number      INTEGER NOT NULL,
    received_ms INTEGER NOT NULL,
    endpoint    INTEGER REFERENCES word (id),
    length      INTEGER,                 -- of the body before compression; NULL: it is not compressed
    body        BLOB                     -- NULL: a model without a wire format
) STRICT;

ALTER TABLE call RENAME TO old_call;
CREATE TABLE call (
    -- Deferred: rows of one kind go into a transaction together, and a call may come before its reply.
    seq            INTEGER PRIMARY KEY REFERENCES reply (seq) DEFERRABLE INITIALLY DEFERRED,
    model_name     INTEGER NOT NULL REFERENCES word (id),
    model_id       INTEGER NOT NULL REFERENCES word (id),
    endpoint       INTEGER REFERENCES word (id),
    finish         TEXT NOT NULL,
    tokens_in      INTEGER,
    tokens_cached  INTEGER,
    tokens_out     INTEGER,
    price_nanos    INTEGER,
    latency_ms     INTEGER NOT NULL,
    created_ms     INTEGER NOT NULL,
    attempt        INTEGER,              -- the try that brought it, where nothing else is to be said about that try
    request_length INTEGER,
    request        BLOB NOT NULL,
    text_length    INTEGER,
    text           BLOB NOT NULL
) STRICT;

INSERT INTO word (text)
    SELECT model_name FROM old_call UNION SELECT lower(hex(model_id)) FROM old_call
    UNION SELECT endpoint FROM old_call WHERE endpoint IS NOT NULL
    UNION SELECT endpoint FROM raw_reply WHERE endpoint IS NOT NULL;
CREATE UNIQUE INDEX word_by_text ON word (text);

INSERT INTO reply (seq, key, number, received_ms, endpoint, length, body)
    SELECT raw_reply.seq, key, number, received_ms, word.id, iif(encoding = 'zstd', length, NULL), bytes
    FROM raw_reply JOIN body ON body.digest = raw_reply.body LEFT JOIN word ON word.text = raw_reply.endpoint
    ORDER BY raw_reply.seq;
-- Calls whose reply came over no wire, or was not kept before.
INSERT INTO reply (key, number, received_ms, endpoint, length, body)
    SELECT key, 1, created_ms + latency_ms, word.id, iif(encoding = 'zstd', length, NULL), bytes
    FROM old_call LEFT JOIN body ON body.digest = old_call.raw LEFT JOIN word ON word.text = old_call.endpoint
    WHERE NOT EXISTS (SELECT 1 FROM raw_reply WHERE raw_reply.key = old_call.key AND raw_reply.body = old_call.raw)
    ORDER BY created_ms, old_call.rowid;

CREATE INDEX reply_by_key ON reply (key);
CREATE TABLE old_reply AS
    SELECT old_call.key AS key, coalesce(
        (SELECT max(raw_reply.seq) FROM raw_reply WHERE raw_reply.key = old_call.key AND raw_reply.body = old_call.raw),
        (SELECT max(reply.seq) FROM reply WHERE reply.key = old_call.key AND reply.seq > coalesce((SELECT max(seq) FROM raw_reply), 0))
    ) AS seq FROM old_call;
INSERT INTO call
    SELECT old_reply.seq, name.id, identity.id, place.id, finish, tokens_in, tokens_cached, tokens_out, price_nanos,
        latency_ms, created_ms, NULL, iif(asked.encoding = 'zstd', asked.length, NULL), asked.bytes,
        iif(said.encoding = 'zstd', said.length, NULL), said.bytes
    FROM old_reply JOIN old_call USING (key)
    JOIN body AS asked ON asked.digest = old_call.request
    JOIN body AS said ON said.digest = old_call.reply
    JOIN word AS name ON name.text = old_call.model_name
    JOIN word AS identity ON identity.text = lower(hex(old_call.model_id))
    LEFT JOIN word AS place ON place.text = old_call.endpoint
    ORDER BY old_reply.seq;

DROP INDEX word_by_text;
DROP INDEX reply_by_key;
DROP TABLE old_reply;
DROP TABLE old_call;
DROP TABLE raw_reply;
DROP TABLE body;

-- Looked for by hand only.
DROP INDEX attempt_by_key;
-- Questions come in an order of their own, so that this one was written all over, too; whoever counts items reads them all.
DROP INDEX item_by_unit;

-- A plan's questions, many in one body, a JSON text a line. What stands in `question` was written by earlier versions.
CREATE TABLE questions (
    plan   BLOB NOT NULL REFERENCES plan (digest),
    number INTEGER NOT NULL,
    length INTEGER,
    lines  BLOB NOT NULL,
    PRIMARY KEY (plan, number)
) STRICT, WITHOUT ROWID;
