-- A run's recipe as it was written: what a plan leaves out on purpose (URLs, names of key variables, limits) is needed
-- again to serve the run's arms. `folder` is where its relative paths are seen from.
CREATE TABLE run_recipe (
    run    INTEGER PRIMARY KEY REFERENCES run (id),
    text   TEXT NOT NULL,
    folder TEXT NOT NULL
) STRICT;
