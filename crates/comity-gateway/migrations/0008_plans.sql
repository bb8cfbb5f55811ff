-- Experiment plans that were approved, by the SHA-256 of their bytes: a grant that names one which is not here opens nothing.
CREATE TABLE experiment_plan (
    id BLOB PRIMARY KEY CHECK (length(id) = 32),
    bytes BLOB NOT NULL,
    at INTEGER NOT NULL
) STRICT;

-- What was charged in executions of plans, written with the charges: a restart forgets none of it.
CREATE TABLE plan_run (
    subject TEXT NOT NULL,
    grant_id BLOB NOT NULL CHECK (length(grant_id) = 16),
    run TEXT NOT NULL,
    op INTEGER NOT NULL CHECK (op >= 1),
    begun INTEGER NOT NULL CHECK (begun >= 0),
    -- When its grant ends.
    ends INTEGER NOT NULL,
    calls INTEGER NOT NULL CHECK (calls >= 1),
    input_tokens INTEGER NOT NULL CHECK (input_tokens >= 0),
    output_tokens INTEGER NOT NULL CHECK (output_tokens >= 0),
    PRIMARY KEY (subject, grant_id, run, op)
) STRICT, WITHOUT ROWID;
