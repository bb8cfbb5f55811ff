-- Grants that the owner took back, for good: by their own id, so that one which comes again later does not count either.
CREATE TABLE grant_withdrawn (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    at BIGINT NOT NULL
);
