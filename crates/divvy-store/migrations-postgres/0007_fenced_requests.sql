-- As before, and a request that another worker has taken over, or has an answer to, does not go out a second time: a worker that
-- stood still for longer than its lease finds here what became of the requests that it had in line.
CREATE OR REPLACE FUNCTION go_out(of_plan BYTEA, who BIGINT, of_key BYTEA, most BIGINT[], unless_replied BOOLEAN) RETURNS TEXT
LANGUAGE plpgsql AS $$
DECLARE
    is_closed BOOLEAN;
BEGIN
    IF unless_replied AND EXISTS (SELECT 1 FROM raw_reply r WHERE r.key = of_key) THEN
        RETURN 'replied';
    END IF;
    IF EXISTS (SELECT 1 FROM flight f WHERE f.key = of_key AND f.worker <> who)
        OR EXISTS (SELECT 1 FROM call c WHERE c.key = of_key) THEN
        RETURN 'taken';
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
