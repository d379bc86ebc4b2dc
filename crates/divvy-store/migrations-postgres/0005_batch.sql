-- Files of requests that are handed to a Batch API, as in the embedded store. A batch is followed by the worker that meant to
-- hand it in, and by whoever asks next once that one is no longer heard of; only he who follows it says how it stands.
CREATE TABLE batch (
    seq         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    intent      TEXT COLLATE "C" NOT NULL UNIQUE,
    endpoint    TEXT COLLATE "C" NOT NULL,
    model       TEXT COLLATE "C" NOT NULL,
    keys        BYTEA NOT NULL,            -- 32 bytes each, in the order of its file
    created_ms  BIGINT NOT NULL,
    deadline_ms BIGINT,
    worker      BIGINT NOT NULL REFERENCES worker (id),
    is_over     BOOLEAN NOT NULL DEFAULT false
);
CREATE INDEX batch_that_is_open ON batch (endpoint, model) WHERE NOT is_over;

-- What became of it; the last row is its state. A step that is sent again because its answer was lost may stand here twice.
CREATE TABLE batch_event (
    seq    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    intent TEXT COLLATE "C" NOT NULL REFERENCES batch (intent),
    state  TEXT NOT NULL CHECK (state IN ('uploaded', 'submitted', 'running', 'settled', 'abandoned')),
    name   TEXT,
    back   BIGINT,
    failed BIGINT,
    detail TEXT,
    at_ms  BIGINT NOT NULL
);
CREATE INDEX batch_event_by_intent ON batch_event (intent, seq);

-- Rows of batches that are not over: a row is in one of them only, whoever hands it in.
CREATE TABLE batch_row (
    endpoint TEXT COLLATE "C" NOT NULL,
    model    TEXT COLLATE "C" NOT NULL,
    key      BYTEA NOT NULL,
    intent   TEXT COLLATE "C" NOT NULL REFERENCES batch (intent),
    PRIMARY KEY (endpoint, model, key)
);
CREATE INDEX batch_row_by_intent ON batch_row (intent);
