-- Who keeps the books, and what they did that needs two of them. State: 0 waits for a second person, 1 done.
CREATE TABLE officer (
    key        BLOB    NOT NULL PRIMARY KEY CHECK (length(key) = 32),
    -- The person: two keys with one name are one person.
    name       TEXT    NOT NULL,
    added_at   INTEGER NOT NULL,
    removed_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE act (
    -- Digest of its body.
    id          BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    kind        TEXT    NOT NULL,
    body        TEXT    NOT NULL,
    -- Null: the operator alone, while fewer than two officers were registered.
    proposer    BLOB    REFERENCES officer (key),
    proposal    BLOB    CHECK (length(proposal) = 64),
    proposed_at INTEGER NOT NULL,
    approver    BLOB    REFERENCES officer (key),
    approval    BLOB    CHECK (length(approval) = 64),
    done_at     INTEGER,
    state       INTEGER NOT NULL CHECK (state IN (0, 1)),
    CHECK ((state = 1) = (done_at IS NOT NULL)),
    CHECK ((proposer IS NULL) = (proposal IS NULL)),
    CHECK ((approver IS NULL) = (approval IS NULL)),
    CHECK (approver IS NULL OR approver <> proposer)
) STRICT, WITHOUT ROWID;
CREATE INDEX act_waiting ON act (proposed_at) WHERE state = 0;
CREATE INDEX act_by_time ON act (proposed_at);

CREATE TRIGGER act_is_kept BEFORE DELETE ON act WHEN OLD.state = 1
BEGIN SELECT RAISE(ABORT, 'what was done is never deleted'); END;
CREATE TRIGGER act_is_never_changed BEFORE UPDATE ON act WHEN OLD.state = 1
BEGIN SELECT RAISE(ABORT, 'what was done is never changed'); END;
