-- Sealed decisions: the links of all events in one Merkle tree, and the heads that were signed over it.

-- What waits to be sealed, written by the triggers below with the event, so that no statement can forget it. Kinds: 1 application, 2 case.
CREATE TABLE access_unsealed (
    seq INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL CHECK (kind IN (1, 2)),
    of_id BLOB NOT NULL CHECK (length(of_id) = 16),
    n INTEGER NOT NULL CHECK (n >= 1)
) STRICT;
CREATE TRIGGER access_event_waits AFTER INSERT ON access_event
BEGIN INSERT INTO access_unsealed (kind, of_id, n) VALUES (1, NEW.application, NEW.n); END;
CREATE TRIGGER access_case_event_waits AFTER INSERT ON access_case_event
BEGIN INSERT INTO access_unsealed (kind, of_id, n) VALUES (2, NEW.case_id, NEW.n); END;
INSERT INTO access_unsealed (kind, of_id, n) SELECT 1, application, n FROM access_event ORDER BY application, n;
INSERT INTO access_unsealed (kind, of_id, n) SELECT 2, case_id, n FROM access_case_event ORDER BY case_id, n;

CREATE TABLE access_seal (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    -- Which log: one more where one was lost and another begun.
    log INTEGER NOT NULL CHECK (log >= 1),
    size INTEGER NOT NULL CHECK (size >= 0),
    -- The number of the newest head.
    heads INTEGER NOT NULL CHECK (heads >= 0)
) STRICT;
INSERT INTO access_seal (one, log, size, heads) VALUES (1, 1, 0, 0);

CREATE TABLE access_leaf (
    log INTEGER NOT NULL,
    place INTEGER NOT NULL CHECK (place >= 0),
    kind INTEGER NOT NULL,
    of_id BLOB NOT NULL,
    n INTEGER NOT NULL,
    link BLOB NOT NULL CHECK (length(link) = 32),
    PRIMARY KEY (log, place),
    UNIQUE (log, kind, of_id, n)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER access_leaf_stays BEFORE UPDATE ON access_leaf
BEGIN SELECT RAISE(ABORT, 'what was sealed is never changed'); END;
CREATE TRIGGER access_leaf_is_kept BEFORE DELETE ON access_leaf
BEGIN SELECT RAISE(ABORT, 'what was sealed is never deleted'); END;

CREATE TABLE access_tile (
    log INTEGER NOT NULL,
    level INTEGER NOT NULL,
    n INTEGER NOT NULL,
    hashes BLOB NOT NULL CHECK (length(hashes) BETWEEN 32 AND 8192),
    PRIMARY KEY (log, level, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE access_head (
    n INTEGER PRIMARY KEY CHECK (n >= 1),
    log INTEGER NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 1),
    bytes BLOB NOT NULL CHECK (length(bytes) <= 512)
) STRICT;

-- Where houses have a head in their logs.
CREATE TABLE access_head_logged (
    house BLOB NOT NULL CHECK (length(house) = 16),
    n INTEGER NOT NULL REFERENCES access_head (n),
    idx INTEGER NOT NULL CHECK (idx >= 0),
    PRIMARY KEY (house, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX access_head_logged_n ON access_head_logged (n);

-- Why another log was begun.
CREATE TABLE access_log_begun (
    log INTEGER PRIMARY KEY,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
