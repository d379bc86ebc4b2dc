-- What a try cost that brought no reply, where the endpoint counted its tokens and the model has a price for them. NULL: unknown,
-- or its call says it.
ALTER TABLE attempt ADD COLUMN price_nanos BIGINT;
