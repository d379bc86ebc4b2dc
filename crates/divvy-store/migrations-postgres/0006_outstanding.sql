-- What is out at an endpoint is written down before it goes, with the most that it may cost, and struck off in the transaction
-- that records what came of it. What a worker that is no longer heard of has here is lost: perhaps charged, and nobody has
-- heard the answer. Whoever takes over its request takes nothing off this list.
CREATE TABLE outstanding (
    worker BIGINT NOT NULL,
    key    BYTEA NOT NULL,
    plan   BYTEA NOT NULL,
    calls  BIGINT NOT NULL,
    tokens BIGINT NOT NULL,
    nanos  BIGINT NOT NULL,
    PRIMARY KEY (worker, key)
);

-- In the order in which workers lock them.
LOCK TABLE account, slice;

-- What has come back cost so much, and the worker has not booked it on the plan's account yet; where there are no caps, it
-- never does.
ALTER TABLE slice
    ADD COLUMN unbooked_calls  BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN unbooked_tokens BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN unbooked_nanos  BIGINT NOT NULL DEFAULT 0,
    -- What it held went back while nobody heard of it: nothing goes out under it before its worker has borrowed anew.
    ADD COLUMN closed BOOLEAN NOT NULL DEFAULT FALSE;

-- What workers held that vanished before this step stays lost as a whole. Those that are at work are heard out.
INSERT INTO outstanding (worker, key, plan, calls, tokens, nanos)
    SELECT worker, '\x'::bytea, plan, calls, tokens, nanos FROM slice WHERE calls > 0 AND NOT alive(worker);
UPDATE account a SET held_calls = held_calls - gone.calls, held_tokens = held_tokens - gone.tokens,
        held_nanos = held_nanos - gone.nanos
    FROM (SELECT plan, sum(calls) AS calls, sum(tokens) AS tokens, sum(nanos) AS nanos
          FROM outstanding GROUP BY plan) gone WHERE gone.plan = a.plan;
UPDATE slice SET closed = TRUE, calls = 0, tokens = 0, nanos = 0
    WHERE (plan, worker) IN (SELECT plan, worker FROM outstanding);

-- Writes down that a try goes out now, unless a reply to its request is there that nobody has read, or what it holds was lent
-- to others. The lock is in the way of whoever closes the slice: a try goes out before that, and is seen, or not at all.
CREATE FUNCTION go_out(of_plan BYTEA, who BIGINT, of_key BYTEA, most BIGINT[], unless_replied BOOLEAN) RETURNS TEXT
LANGUAGE plpgsql AS $$
DECLARE
    is_closed BOOLEAN;
BEGIN
    IF unless_replied AND EXISTS (SELECT 1 FROM raw_reply r WHERE r.key = of_key) THEN
        RETURN 'replied';
    END IF;
    -- Where nothing is lent there is nothing to lose, and nothing to lock.
    SELECT s.closed INTO is_closed FROM slice s
        WHERE s.plan = of_plan AND s.worker = who AND (s.calls > 0 OR s.closed) FOR KEY SHARE;
    IF is_closed THEN
        RETURN 'unlent';
    END IF;
    INSERT INTO outstanding AS o (worker, key, plan, calls, tokens, nanos)
        VALUES (who, of_key, of_plan, most[1], most[2], most[3])
        ON CONFLICT (worker, key) DO UPDATE
            SET plan = excluded.plan, calls = excluded.calls, tokens = excluded.tokens, nanos = excluded.nanos;
    RETURN 'out';
END
$$;

-- As before, but for workers that vanished: what they hold goes back to the plan, less what they spent and what they had out.
CREATE OR REPLACE FUNCTION borrow(
    of_plan BYTEA, who BIGINT, this_turn BIGINT, spent BIGINT[], keep BIGINT[], need BIGINT[], more BIGINT[], cap BIGINT[],
    OUT granted BOOLEAN, OUT holds BIGINT[], OUT total BIGINT[], OUT lost BIGINT[], OUT others BOOLEAN
) LANGUAGE plpgsql AS $$
DECLARE
    mine slice;
    used BIGINT[];
    held BIGINT[];
    beyond BIGINT[];
    fits BOOLEAN := TRUE;
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
        WITH gone AS (
            SELECT s.worker, s.calls, s.tokens, s.nanos FROM slice s
            WHERE s.plan = of_plan AND s.worker <> who AND s.calls > 0 AND NOT alive(s.worker) FOR UPDATE SKIP LOCKED
        ), shut AS (
            UPDATE slice s SET closed = TRUE, calls = 0, tokens = 0, nanos = 0
            FROM gone WHERE s.plan = of_plan AND s.worker = gone.worker
        )
        SELECT ARRAY[held[1] - coalesce(sum(g.calls), 0), held[2] - coalesce(sum(g.tokens), 0),
                     held[3] - coalesce(sum(g.nanos), 0)] INTO held FROM gone g;
        -- Of workers that hold nothing: what came back and is not booked, and what may still come.
        SELECT ARRAY[coalesce(sum(b.calls), 0), coalesce(sum(b.tokens), 0), coalesce(sum(b.nanos), 0)] INTO beyond
            FROM (SELECT unbooked_calls AS calls, unbooked_tokens AS tokens, unbooked_nanos AS nanos FROM slice s
                  WHERE s.plan = of_plan AND s.worker <> who AND s.calls = 0
                  UNION ALL
                  SELECT o.calls, o.tokens, o.nanos FROM outstanding o
                  WHERE o.plan = of_plan AND o.worker <> who
                      AND NOT EXISTS (SELECT FROM slice s
                                      WHERE s.plan = of_plan AND s.worker = o.worker AND s.calls > 0)) b;
        granted := TRUE;
        FOR i IN 1..3 LOOP
            used[i] := used[i] + spent[i];
            held[i] := held[i] - (ARRAY[mine.calls, mine.tokens, mine.nanos])[i] + keep[i];
            fits := fits AND (cap[i] IS NULL OR used[i] + held[i] + beyond[i] <= cap[i]);
            granted := granted AND (cap[i] IS NULL OR used[i] + held[i] + beyond[i] + need[i] <= cap[i]);
        END LOOP;
        holds := keep;
        mine.closed := mine.closed AND NOT fits;
        IF mine.closed THEN
            -- Others were lent meanwhile what its calls have reserved: those that are not out have to borrow again.
            FOR i IN 1..3 LOOP
                held[i] := held[i] - keep[i];
                holds[i] := 0;
            END LOOP;
        ELSIF granted THEN
            FOR i IN 1..3 LOOP
                -- Little is lent where little is left, so that no worker sits on what another needs.
                left_over := coalesce(cap[i] - used[i] - held[i] - beyond[i] - need[i], more[i] * 4);
                holds[i] := keep[i] + need[i] + least(more[i], left_over / 4);
                held[i] := held[i] - keep[i] + holds[i];
            END LOOP;
        END IF;
        UPDATE account SET calls = used[1], tokens = used[2], nanos = used[3],
            held_calls = held[1], held_tokens = held[2], held_nanos = held[3] WHERE plan = of_plan;
        UPDATE slice s SET turn = this_turn, granted = borrow.granted, closed = mine.closed,
            calls = holds[1], tokens = holds[2], nanos = holds[3],
            unbooked_calls = greatest(s.unbooked_calls - spent[1], 0),
            unbooked_tokens = greatest(s.unbooked_tokens - spent[2], 0),
            unbooked_nanos = greatest(s.unbooked_nanos - spent[3], 0)
            WHERE s.plan = of_plan AND s.worker = who;
    END IF;
    total := used;
    lost := ARRAY[0, 0, 0];
    others := FALSE;
    IF NOT granted THEN
        SELECT ARRAY[used[1] + coalesce(sum(s.unbooked_calls), 0), used[2] + coalesce(sum(s.unbooked_tokens), 0),
                     used[3] + coalesce(sum(s.unbooked_nanos), 0)] INTO total
            FROM slice s WHERE s.plan = of_plan AND s.worker <> who;
        lost := lost_of(of_plan);
        others := EXISTS (SELECT 1 FROM slice s
                          WHERE s.plan = of_plan AND s.worker <> who AND s.calls > 0 AND alive(s.worker));
    END IF;
END
$$;

-- What workers had out for a plan that are no longer heard of.
CREATE FUNCTION lost_of(of_plan BYTEA) RETURNS BIGINT[] STABLE LANGUAGE sql AS $$
    SELECT ARRAY[coalesce(sum(o.calls), 0), coalesce(sum(o.tokens), 0), coalesce(sum(o.nanos), 0)]::BIGINT[]
    FROM (SELECT worker, sum(calls) AS calls, sum(tokens) AS tokens, sum(nanos) AS nanos
          FROM outstanding WHERE plan = of_plan GROUP BY worker) o
    WHERE NOT alive(o.worker)
$$;
