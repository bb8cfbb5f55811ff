-- Grants that the operator gave or took back by hand, with who, why and when. Rows are added and never changed: the register of the
-- access store (spec/11-access.md §11.9) has a copy of each.
CREATE TABLE grant_log (
    n INTEGER NOT NULL PRIMARY KEY CHECK (n > 0),
    -- 1 given, 2 taken back.
    act INTEGER NOT NULL CHECK (act BETWEEN 1 AND 2),
    grant_id BLOB NOT NULL CHECK (length(grant_id) = 16),
    -- Content id of the signed grant, and whose it is, where it was given.
    content BLOB CHECK (length(content) = 32),
    subject TEXT NOT NULL,
    author TEXT NOT NULL CHECK (author <> ''),
    reason TEXT NOT NULL CHECK (reason <> ''),
    at INTEGER NOT NULL CHECK (at >= 0),
    CHECK ((act = 1) = (content IS NOT NULL))
) STRICT;

-- A project that the filter had suspended is let in again by hand (4): that is a line, too.
CREATE TABLE stop_log_now (
    n INTEGER NOT NULL PRIMARY KEY CHECK (n > 0),
    -- 1 stopped, 2 stopped with what was running, 3 resumed, 4 let in again.
    act INTEGER NOT NULL CHECK (act BETWEEN 1 AND 4),
    kind INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 3),
    name TEXT NOT NULL,
    author TEXT NOT NULL CHECK (author <> ''),
    reason TEXT NOT NULL CHECK (reason <> ''),
    at INTEGER NOT NULL CHECK (at >= 0)
) STRICT;
INSERT INTO stop_log_now SELECT n, act, kind, name, author, reason, at FROM stop_log ORDER BY n;
DROP TABLE stop_log;
ALTER TABLE stop_log_now RENAME TO stop_log;
