-- When a command wrote down for the last time what it had in flight: those requests were sent by then, and whoever keeps to a
-- rate counts them. NULL: an earlier version did not say.
ALTER TABLE spending ADD COLUMN left_ms INTEGER;
