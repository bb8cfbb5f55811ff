-- Experiment plans that were approved, by the SHA-256 of their bytes: a grant that names one which is not here opens nothing.
CREATE TABLE experiment_plan (
    id BYTEA PRIMARY KEY CHECK (length(id) = 32),
    bytes BYTEA NOT NULL,
    at BIGINT NOT NULL
);

-- What was charged in executions of plans, written with the charges under their subject's lock. What runs counts by its hold.
CREATE TABLE plan_run (
    subject TEXT NOT NULL,
    grant_id BYTEA NOT NULL CHECK (length(grant_id) = 16),
    run TEXT NOT NULL,
    op BIGINT NOT NULL CHECK (op >= 1),
    begun BIGINT NOT NULL CHECK (begun >= 0),
    -- When its grant ends.
    ends BIGINT NOT NULL,
    calls BIGINT NOT NULL CHECK (calls >= 1),
    input_tokens BIGINT NOT NULL CHECK (input_tokens >= 0),
    output_tokens BIGINT NOT NULL CHECK (output_tokens >= 0),
    PRIMARY KEY (subject, grant_id, run, op)
);
