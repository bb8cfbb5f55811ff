-- Claims and finals that contradict what stands in the books, signed all the same: refused, and kept for a dispute.
CREATE TABLE contradiction (
    id       BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    token    BLOB    NOT NULL REFERENCES token (id),
    code     TEXT    NOT NULL,
    message  TEXT    NOT NULL,
    bytes    BLOB    NOT NULL,
    taken_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX contradiction_by_token ON contradiction (token);
CREATE INDEX contradiction_by_time ON contradiction (taken_at);

CREATE TRIGGER contradiction_is_kept BEFORE DELETE ON contradiction
BEGIN SELECT RAISE(ABORT, 'evidence is never deleted'); END;
