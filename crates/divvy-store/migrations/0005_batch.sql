-- Files of requests that are handed to a Batch API, on record before anything is sent. `intent` stands in the batch's
-- metadata at the endpoint, so that one whose id was lost with the process is found again and not handed in twice.
CREATE TABLE batch (
    seq         INTEGER PRIMARY KEY,
    intent      TEXT NOT NULL UNIQUE,
    endpoint    TEXT NOT NULL,
    model       TEXT NOT NULL,
    keys        BLOB NOT NULL,           -- call keys, 32 bytes each
    created_ms  INTEGER NOT NULL,
    deadline_ms INTEGER
) STRICT;

-- What became of it; the last row is its state. `name` is the endpoint's name for the file or the batch.
CREATE TABLE batch_event (
    seq    INTEGER PRIMARY KEY,
    intent TEXT NOT NULL REFERENCES batch (intent),
    state  TEXT NOT NULL CHECK (state IN ('uploaded', 'submitted', 'running', 'settled', 'abandoned')),
    name   TEXT,
    back   INTEGER,
    failed INTEGER,
    detail TEXT,
    at_ms  INTEGER NOT NULL
) STRICT;
CREATE INDEX batch_event_by_intent ON batch_event (intent, seq);
