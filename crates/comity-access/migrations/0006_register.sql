-- The register of what operators do by hand (spec/11-access.md §11.9): copies of lines that other stores have, one behind the other. Rows are
-- added and never changed.
CREATE TABLE access_act (
    n INTEGER PRIMARY KEY CHECK (n >= 1),
    -- Zeros: there is one register of a node.
    register BLOB NOT NULL CHECK (length(register) = 16),
    -- What it is a copy of.
    source TEXT NOT NULL CHECK (source <> ''),
    line INTEGER NOT NULL CHECK (line >= 1),
    bytes BLOB NOT NULL CHECK (length(bytes) <= 16384),
    UNIQUE (source, line)
) STRICT;
CREATE TRIGGER access_act_stays BEFORE UPDATE ON access_act
BEGIN SELECT RAISE(ABORT, 'an act is never changed'); END;
CREATE TRIGGER access_act_is_kept BEFORE DELETE ON access_act
BEGIN SELECT RAISE(ABORT, 'an act is never deleted'); END;

-- A third kind of what waits to be sealed: an act of the register.
DROP TRIGGER access_event_waits;
DROP TRIGGER access_case_event_waits;
CREATE TABLE access_unsealed_now (
    seq INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL CHECK (kind IN (1, 2, 3)),
    of_id BLOB NOT NULL CHECK (length(of_id) = 16),
    n INTEGER NOT NULL CHECK (n >= 1)
) STRICT;
INSERT INTO access_unsealed_now (seq, kind, of_id, n) SELECT seq, kind, of_id, n FROM access_unsealed ORDER BY seq;
DROP TABLE access_unsealed;
ALTER TABLE access_unsealed_now RENAME TO access_unsealed;
CREATE TRIGGER access_event_waits AFTER INSERT ON access_event
BEGIN INSERT INTO access_unsealed (kind, of_id, n) VALUES (1, NEW.application, NEW.n); END;
CREATE TRIGGER access_case_event_waits AFTER INSERT ON access_case_event
BEGIN INSERT INTO access_unsealed (kind, of_id, n) VALUES (2, NEW.case_id, NEW.n); END;
CREATE TRIGGER access_act_waits AFTER INSERT ON access_act
BEGIN INSERT INTO access_unsealed (kind, of_id, n) VALUES (3, NEW.register, NEW.n); END;
