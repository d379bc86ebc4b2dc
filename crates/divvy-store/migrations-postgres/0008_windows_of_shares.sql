-- A share counts for as long as it may be used and a minute more: that is longer where answers come late to its worker. So it
-- stands with the share, and no longer with whoever asks next.
ALTER TABLE lent ADD COLUMN until TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp() + INTERVAL '62 seconds';
UPDATE lent SET until = at + INTERVAL '62 seconds';
DROP INDEX lent_by_lane;
CREATE INDEX lent_by_lane ON lent (lane, until);

-- As before, but for that.
CREATE OR REPLACE FUNCTION lend(
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
    DELETE FROM lent l WHERE l.lane = of_lane AND (l.until <= moment OR (l.requests = 0 AND l.tokens = 0));
    SELECT min(l.until), coalesce(sum(l.requests), 0), coalesce(sum(l.tokens), 0) INTO first, sent, taken
        FROM lent l WHERE l.lane = of_lane;
    -- A request that is larger than the limit goes alone: it would never fit.
    need_tokens := least(need_tokens, most_tokens);
    IF first IS NULL OR (coalesce(sent < most_requests, TRUE) AND coalesce(taken + need_tokens <= most_tokens, TRUE)) THEN
        requests := greatest(1, least(want_requests, most_requests - sent));
        tokens := greatest(coalesce(need_tokens, 0), least(want_tokens, most_tokens - taken));
        INSERT INTO lent (lane, at, until, requests, tokens)
            VALUES (of_lane, moment, moment + window_ms * INTERVAL '1 millisecond', requests, tokens) RETURNING lent.id INTO id;
    ELSE
        wait_ms := ceil(extract(epoch FROM first - moment) * 1000);
    END IF;
END
$$;
