-- Which reply may have which key: thirty-one bits of the key, then thirty-two of the reply's number, in one integer. Written in
-- sorted batches, since one by one they would have every commit write pages all over the file.
CREATE TABLE key (
    entry INTEGER PRIMARY KEY
) STRICT;

-- Each batch, with a filter that says of most keys that they are not in it.
CREATE TABLE key_batch (
    up_to  INTEGER PRIMARY KEY,          -- keys of all replies up to this number are in this batch or an earlier one
    filter BLOB NOT NULL
) STRICT;
