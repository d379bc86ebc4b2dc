-- The id of a question says its place in a data set, not its text: two plans may mean different texts by it.
DROP TABLE question;
CREATE TABLE question (
    plan BLOB NOT NULL REFERENCES plan (digest),
    id   TEXT NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (plan, id)
) STRICT, WITHOUT ROWID;
