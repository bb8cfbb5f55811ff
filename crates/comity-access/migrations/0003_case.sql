-- Cases at an owner's node. What a case is stands in its events; the row beside them is for lists and clocks.

CREATE TABLE access_case (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    subject TEXT NOT NULL,
    category TEXT NOT NULL,
    model TEXT NOT NULL,
    state TEXT NOT NULL,
    -- Whether a move is due.
    is_open INTEGER NOT NULL CHECK (is_open IN (0, 1)),
    -- Whether more of the same is added to it, until it is decided. Two gateways that see one thing at once open one case.
    gathers INTEGER NOT NULL CHECK (gathers IN (0, 1)),
    -- Unix seconds; the largest number where no clock runs.
    due_at INTEGER NOT NULL,
    opened_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    -- How many, and the link of the last one.
    events INTEGER NOT NULL CHECK (events >= 1),
    head BLOB NOT NULL CHECK (length(head) = 32)
) STRICT;
CREATE UNIQUE INDEX access_case_gathers ON access_case (subject, category, model) WHERE gathers = 1;
CREATE INDEX access_case_due ON access_case (due_at, id);
CREATE INDEX access_case_newest ON access_case (opened_at, id);
CREATE INDEX access_case_open ON access_case (is_open, opened_at, id);
CREATE INDEX access_case_subject ON access_case (subject, opened_at, id);

-- Never changed and never deleted.
CREATE TABLE access_case_event (
    case_id BLOB NOT NULL REFERENCES access_case (id),
    n INTEGER NOT NULL CHECK (n >= 1),
    bytes BLOB NOT NULL,
    PRIMARY KEY (case_id, n)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER access_case_event_stays BEFORE UPDATE ON access_case_event
BEGIN SELECT RAISE(ABORT, 'an event is never changed'); END;
CREATE TRIGGER access_case_event_is_kept BEFORE DELETE ON access_case_event
BEGIN SELECT RAISE(ABORT, 'an event is never deleted'); END;

-- What was seen, sealed for the node's key, until the policy's time is over.
CREATE TABLE access_case_excerpt (
    case_id BLOB PRIMARY KEY REFERENCES access_case (id),
    sealed BLOB NOT NULL CHECK (length(sealed) <= 16384),
    until INTEGER NOT NULL
) STRICT;
CREATE INDEX access_case_excerpt_until ON access_case_excerpt (until, case_id);

-- What an event does at the gateways: written with it, deleted once it was done, done again after a crash.
CREATE TABLE access_case_effect (
    case_id BLOB NOT NULL REFERENCES access_case (id),
    n INTEGER NOT NULL CHECK (n >= 1),
    PRIMARY KEY (case_id, n)
) STRICT, WITHOUT ROWID;
