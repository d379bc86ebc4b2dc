-- How long the machine worked for a call, in microseconds, where the model runs on a machine that is paid by the hour or not
-- at all: a price is put on that time when a report is made. NULL: nobody measured it, or the call is paid by its tokens.
ALTER TABLE call ADD COLUMN worked_us INTEGER;
