-- From sending the request to the last byte of the reply: a reply that is read only after a kill becomes a call with its true
-- latency. NULL: nobody knows.
ALTER TABLE raw_reply ADD COLUMN took_ms BIGINT;
