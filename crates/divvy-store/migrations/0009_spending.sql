-- What each command spent for its plan, and what was in flight when it was killed: nobody knows whether that was charged.
CREATE TABLE spending (
    number      INTEGER PRIMARY KEY,
    plan        BLOB NOT NULL,
    calls       INTEGER NOT NULL,
    tokens      INTEGER NOT NULL,
    nanos       INTEGER NOT NULL,
    lost_calls  INTEGER NOT NULL,
    lost_tokens INTEGER NOT NULL,
    lost_nanos  INTEGER NOT NULL
) STRICT;
