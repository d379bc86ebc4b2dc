-- The tables of the embedded store on a server, and what workers on several machines share besides: leases, money, rates.
-- Digests are 32 bytes; money is nano-dollars; times with _ms are milliseconds since 1970 UTC by the clock of whoever wrote
-- them. Leases follow the server's clock alone. NULL is "unknown", never zero. Texts are ordered byte by byte, as in SQLite.

-- A process that writes. It holds its leases for as long as it is heard of.
CREATE TABLE worker (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name    TEXT NOT NULL,                 -- machine and process, for people
    lease   INTERVAL NOT NULL,
    expires TIMESTAMPTZ NOT NULL,
    batch   BIGINT NOT NULL DEFAULT 0      -- its last committed transaction: one whose answer was lost is not run twice
);

-- A server that was down longer than a lease has heard of nobody: each gets a lease of time to report back.
CREATE FUNCTION alive(who BIGINT) RETURNS BOOLEAN STABLE LANGUAGE sql AS $$
    SELECT EXISTS (SELECT 1 FROM worker
                   WHERE id = who AND greatest(expires, pg_postmaster_start_time() + lease) >= now())
$$;

CREATE TABLE body (
    digest   BYTEA PRIMARY KEY,            -- BLAKE3 of the bytes before compression
    length   BIGINT NOT NULL,              -- before compression
    encoding TEXT NOT NULL CHECK (encoding IN ('plain', 'zstd')),
    bytes    BYTEA NOT NULL
);
ALTER TABLE body ALTER bytes SET STORAGE EXTERNAL; -- compressed already

CREATE TABLE call (
    key           BYTEA PRIMARY KEY,
    seq           BIGINT GENERATED ALWAYS AS IDENTITY,
    model_name    TEXT COLLATE "C" NOT NULL,
    model_id      BYTEA NOT NULL,
    request       BYTEA NOT NULL REFERENCES body (digest),
    reply         BYTEA NOT NULL REFERENCES body (digest),
    raw           BYTEA REFERENCES body (digest),
    finish        TEXT NOT NULL,
    tokens_in     BIGINT,
    tokens_cached BIGINT,
    tokens_out    BIGINT,
    price_nanos   BIGINT,
    latency_ms    BIGINT NOT NULL,
    created_ms    BIGINT NOT NULL,
    endpoint      TEXT
);
CREATE INDEX call_by_time ON call (created_ms);

CREATE TABLE raw_reply (
    seq         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key         BYTEA NOT NULL,
    number      BIGINT NOT NULL,
    body        BYTEA NOT NULL REFERENCES body (digest),
    endpoint    TEXT,
    received_ms BIGINT NOT NULL
);
CREATE INDEX raw_reply_by_key ON raw_reply (key);

CREATE TABLE attempt (
    seq           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key           BYTEA NOT NULL,
    number        BIGINT NOT NULL,
    outcome       TEXT COLLATE "C" NOT NULL,
    http_status   BIGINT,
    message       TEXT NOT NULL,
    tokens_in     BIGINT,
    tokens_cached BIGINT,
    tokens_out    BIGINT,
    started_ms    BIGINT NOT NULL,
    latency_ms    BIGINT NOT NULL
);
CREATE INDEX attempt_by_key ON attempt (key);

-- Whose request with this key is on its way.
CREATE TABLE flight (
    key    BYTEA PRIMARY KEY,
    worker BIGINT NOT NULL
);

CREATE TABLE plan (
    digest BYTEA PRIMARY KEY,
    json   TEXT NOT NULL
);

-- A nonce comes with a row that is sent again when its answer is lost, and makes it one row.
CREATE TABLE run (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    nonce      TEXT NOT NULL UNIQUE,
    plan       BYTEA NOT NULL REFERENCES plan (digest),
    name       TEXT NOT NULL,
    version    TEXT NOT NULL,
    started_ms BIGINT NOT NULL,
    ended_ms   BIGINT,
    status     TEXT NOT NULL
);

-- As it was written; none where a secret may stand in it.
CREATE TABLE run_recipe (
    run    BIGINT PRIMARY KEY REFERENCES run (id),
    text   TEXT NOT NULL,
    folder TEXT NOT NULL                   -- where its relative paths are seen from
);

CREATE TABLE stage_time (
    seq     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    nonce   TEXT NOT NULL UNIQUE,
    plan    BYTEA NOT NULL REFERENCES plan (digest),
    stage   TEXT NOT NULL,
    wall_ms BIGINT NOT NULL
);

CREATE TABLE question (
    plan BYTEA NOT NULL REFERENCES plan (digest),
    id   TEXT COLLATE "C" NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (plan, id)
);

-- Every item as it stands. A state of NULL: somebody works on it, and nothing is recorded yet. A token is given with each
-- lease; who writes an outcome must still hold it.
CREATE SEQUENCE item_seq;
CREATE SEQUENCE item_token;
CREATE TABLE item (
    plan       BYTEA NOT NULL REFERENCES plan (digest),
    stage      TEXT COLLATE "C" NOT NULL,
    question   TEXT COLLATE "C" NOT NULL,
    sample     BIGINT NOT NULL,
    arm        TEXT COLLATE "C" NOT NULL,
    state      TEXT COLLATE "C" CHECK (state IN ('pending', 'done', 'failed', 'rejected')),
    reason     TEXT COLLATE "C",
    payload    TEXT,
    calls      BYTEA,                      -- call keys, 32 bytes each, in order
    updated_ms BIGINT,
    seq        BIGINT,                     -- its newest row in the history
    worker     BIGINT,
    token      BIGINT,
    PRIMARY KEY (plan, stage, question, sample, arm)
);
CREATE INDEX item_by_worker ON item (worker) WHERE worker IS NOT NULL;

-- Every state that an item was in.
CREATE TABLE item_history (
    seq        BIGINT PRIMARY KEY,
    plan       BYTEA NOT NULL,
    stage      TEXT COLLATE "C" NOT NULL,
    question   TEXT COLLATE "C" NOT NULL,
    sample     BIGINT NOT NULL,
    arm        TEXT COLLATE "C" NOT NULL,
    state      TEXT NOT NULL,
    reason     TEXT,
    payload    TEXT NOT NULL,
    calls      BYTEA NOT NULL,
    updated_ms BIGINT NOT NULL
);
CREATE INDEX item_history_by_time ON item_history (plan, stage, updated_ms) WHERE state <> 'pending';
CREATE INDEX item_history_put_back ON item_history (plan, stage) WHERE state = 'pending';

CREATE TABLE artefact (
    seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key        BYTEA NOT NULL,
    kind       TEXT NOT NULL,
    path       TEXT NOT NULL,
    meta       TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);
CREATE INDEX artefact_by_key ON artefact (key, seq);

CREATE TABLE metric (
    key   BYTEA NOT NULL,
    step  BIGINT NOT NULL,
    point TEXT NOT NULL,
    PRIMARY KEY (key, step)
);

CREATE TABLE test_opening (
    seq       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    nonce     TEXT NOT NULL UNIQUE,
    plan      BYTEA NOT NULL REFERENCES plan (digest),
    dataset   TEXT NOT NULL,
    rows      BIGINT NOT NULL,
    opened_ms BIGINT NOT NULL
);

-- What all workers of a plan have spent, and what they hold: borrowed, and not yet settled.
CREATE TABLE account (
    plan        BYTEA PRIMARY KEY,
    calls       BIGINT NOT NULL DEFAULT 0,
    tokens      BIGINT NOT NULL DEFAULT 0,
    nanos       BIGINT NOT NULL DEFAULT 0,
    held_calls  BIGINT NOT NULL DEFAULT 0,
    held_tokens BIGINT NOT NULL DEFAULT 0,
    held_nanos  BIGINT NOT NULL DEFAULT 0
);

-- What one of them holds. That of a worker which vanished stays held: nobody knows what it spent.
CREATE TABLE slice (
    plan    BYTEA NOT NULL,
    worker  BIGINT NOT NULL,
    turn    BIGINT NOT NULL DEFAULT 0,     -- its last exchange: one whose answer was lost is not booked twice
    granted BOOLEAN NOT NULL DEFAULT FALSE,
    calls   BIGINT NOT NULL DEFAULT 0,
    tokens  BIGINT NOT NULL DEFAULT 0,
    nanos   BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (plan, worker)
);

-- Books what a worker spent, takes back all it holds but what calls in flight have reserved (keep), and lends what the next
-- call needs with some more, if the caps allow. All in one round trip; the account's row makes the exchanges one after
-- another. A cap of NULL is none.
CREATE FUNCTION borrow(
    of_plan BYTEA, who BIGINT, this_turn BIGINT, spent BIGINT[], keep BIGINT[], need BIGINT[], more BIGINT[], cap BIGINT[],
    OUT granted BOOLEAN, OUT holds BIGINT[], OUT total BIGINT[], OUT lost BIGINT[], OUT others BOOLEAN
) LANGUAGE plpgsql AS $$
DECLARE
    mine slice;
    used BIGINT[];
    held BIGINT[];
    left_over BIGINT;
BEGIN
    INSERT INTO account (plan) VALUES (of_plan) ON CONFLICT DO NOTHING;
    SELECT ARRAY[a.calls, a.tokens, a.nanos], ARRAY[a.held_calls, a.held_tokens, a.held_nanos] INTO used, held
        FROM account a WHERE plan = of_plan FOR UPDATE;
    INSERT INTO slice (plan, worker) VALUES (of_plan, who) ON CONFLICT DO NOTHING;
    SELECT * INTO mine FROM slice s WHERE s.plan = of_plan AND s.worker = who;
    IF mine.turn >= this_turn THEN
        granted := mine.granted;
        holds := ARRAY[mine.calls, mine.tokens, mine.nanos];
    ELSE
        granted := TRUE;
        FOR i IN 1..3 LOOP
            used[i] := used[i] + spent[i];
            held[i] := held[i] - (ARRAY[mine.calls, mine.tokens, mine.nanos])[i] + keep[i];
            granted := granted AND (cap[i] IS NULL OR used[i] + held[i] + need[i] <= cap[i]);
        END LOOP;
        holds := keep;
        IF granted THEN
            FOR i IN 1..3 LOOP
                -- Little is lent where little is left, so that no worker sits on what another needs.
                left_over := coalesce(cap[i] - used[i] - held[i] - need[i], more[i] * 4);
                holds[i] := keep[i] + need[i] + least(more[i], left_over / 4);
                held[i] := held[i] - keep[i] + holds[i];
            END LOOP;
        END IF;
        UPDATE account SET calls = used[1], tokens = used[2], nanos = used[3],
            held_calls = held[1], held_tokens = held[2], held_nanos = held[3] WHERE plan = of_plan;
        UPDATE slice s SET turn = this_turn, granted = borrow.granted, calls = holds[1], tokens = holds[2], nanos = holds[3]
            WHERE s.plan = of_plan AND s.worker = who;
    END IF;
    total := used;
    SELECT ARRAY[coalesce(sum(s.calls), 0), coalesce(sum(s.tokens), 0), coalesce(sum(s.nanos), 0)]::BIGINT[] INTO lost
        FROM slice s WHERE s.plan = of_plan AND s.worker <> who AND NOT alive(s.worker);
    others := EXISTS (SELECT 1 FROM slice s
                      WHERE s.plan = of_plan AND s.worker <> who AND s.calls > 0 AND alive(s.worker));
END
$$;

-- An endpoint whose rate is limited, and what was lent of its minute.
CREATE TABLE lane (
    name TEXT PRIMARY KEY
);
CREATE TABLE lent (
    id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane     TEXT NOT NULL,
    at       TIMESTAMPTZ NOT NULL,
    requests BIGINT NOT NULL,
    tokens   BIGINT NOT NULL
);
CREATE INDEX lent_by_lane ON lent (lane, at);

-- Lends a share of the window that ends now, or says in how many milliseconds the next comes free. What was lent before
-- and took less is corrected first. A limit of NULL is none.
CREATE FUNCTION lend(
    of_lane TEXT, window_ms BIGINT, most_requests BIGINT, most_tokens BIGINT,
    want_requests BIGINT, need_tokens BIGINT, want_tokens BIGINT,
    settled BIGINT[], settled_requests BIGINT[], settled_tokens BIGINT[],
    OUT id BIGINT, OUT requests BIGINT, OUT tokens BIGINT, OUT wait_ms BIGINT
) LANGUAGE plpgsql AS $$
DECLARE
    moment TIMESTAMPTZ;
    first TIMESTAMPTZ;
    sent BIGINT;
    taken BIGINT;
BEGIN
    INSERT INTO lane (name) VALUES (of_lane) ON CONFLICT DO NOTHING;
    PERFORM 1 FROM lane WHERE name = of_lane FOR UPDATE;
    moment := clock_timestamp();
    UPDATE lent l SET requests = s.requests, tokens = s.tokens
        FROM unnest(settled, settled_requests, settled_tokens) AS s (id, requests, tokens) WHERE l.id = s.id;
    DELETE FROM lent l WHERE l.lane = of_lane
        AND (l.at <= moment - window_ms * INTERVAL '1 millisecond' OR (l.requests = 0 AND l.tokens = 0));
    SELECT min(l.at), coalesce(sum(l.requests), 0), coalesce(sum(l.tokens), 0) INTO first, sent, taken
        FROM lent l WHERE l.lane = of_lane;
    -- A request that is larger than the limit goes alone: it would never fit.
    need_tokens := least(need_tokens, most_tokens);
    IF first IS NULL OR (coalesce(sent < most_requests, TRUE) AND coalesce(taken + need_tokens <= most_tokens, TRUE)) THEN
        requests := greatest(1, least(want_requests, most_requests - sent));
        tokens := greatest(coalesce(need_tokens, 0), least(want_tokens, most_tokens - taken));
        INSERT INTO lent (lane, at, requests, tokens) VALUES (of_lane, moment, requests, tokens) RETURNING lent.id INTO id;
    ELSE
        wait_ms := ceil(extract(epoch FROM first - moment) * 1000) + window_ms;
    END IF;
END
$$;
