-- What owners' people decided, as their nodes sealed it (spec/11-access.md §9): heads as they came, and where the log has them.
CREATE TABLE decision_head (
    node     BLOB    NOT NULL CHECK (length(node) = 16),
    n        INTEGER NOT NULL CHECK (n >= 1),
    log      INTEGER NOT NULL CHECK (log >= 1),
    size     INTEGER NOT NULL CHECK (size >= 1),
    root     BLOB    NOT NULL CHECK (length(root) = 32),
    content  BLOB    NOT NULL UNIQUE CHECK (length(content) = 32),
    bytes    BLOB    NOT NULL CHECK (length(bytes) <= 512),
    taken_at INTEGER NOT NULL,
    PRIMARY KEY (node, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE decision_place (
    content BLOB    NOT NULL PRIMARY KEY REFERENCES decision_head (content),
    idx     INTEGER NOT NULL CHECK (idx >= 0)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER decision_head_is_kept BEFORE DELETE ON decision_head
BEGIN SELECT RAISE(ABORT, 'a head of decisions is never deleted'); END;
CREATE TRIGGER decision_head_stays BEFORE UPDATE ON decision_head
BEGIN SELECT RAISE(ABORT, 'a head of decisions never changes'); END;

CREATE TRIGGER decision_head_is_logged AFTER INSERT ON decision_head
BEGIN
    INSERT INTO unsealed (place, kind, token, content, number)
    SELECT COALESCE(MAX(seq), 0), 6, NULL, NEW.content, NEW.n FROM transfer;
END;
