-- Cases at an owner's node. What a case is, its events say; the other columns are for finding it.
CREATE TABLE access_case (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    subject TEXT NOT NULL,
    category TEXT NOT NULL,
    model TEXT NOT NULL,
    state TEXT NOT NULL,
    due_at INTEGER
) STRICT;
CREATE INDEX access_case_of_subject ON access_case (subject, category, model, state);
CREATE INDEX access_case_due ON access_case (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE case_event (
    id BLOB NOT NULL REFERENCES access_case,
    n INTEGER NOT NULL CHECK (n > 0),
    at INTEGER NOT NULL CHECK (at >= 0),
    bytes BLOB NOT NULL,
    PRIMARY KEY (id, n)
) STRICT, WITHOUT ROWID;
-- Rows are added and never changed.
CREATE TRIGGER case_event_stays BEFORE UPDATE ON case_event BEGIN SELECT RAISE(ABORT, 'events stay'); END;
CREATE TRIGGER case_event_remains BEFORE DELETE ON case_event BEGIN SELECT RAISE(ABORT, 'events stay'); END;

-- What was seen, sealed for the node's key, until the policy's time is over.
CREATE TABLE case_excerpt (
    id BLOB NOT NULL PRIMARY KEY REFERENCES access_case,
    sealed BLOB NOT NULL CHECK (length(sealed) <= 16384),
    until INTEGER NOT NULL CHECK (until >= 0)
) STRICT;
CREATE INDEX case_excerpt_until ON case_excerpt (until);
