-- Grants that the operator gave or took back by hand, with who, why and when. Rows are added and never changed: the register of the
-- access store (spec/11-access.md §11.9) has a copy of each.
CREATE TABLE grant_log (
    n BIGINT NOT NULL PRIMARY KEY CHECK (n > 0),
    -- 1 given, 2 taken back.
    act BIGINT NOT NULL CHECK (act BETWEEN 1 AND 2),
    grant_id BYTEA NOT NULL CHECK (length(grant_id) = 16),
    -- Content id of the signed grant, and whose it is, where it was given.
    content BYTEA CHECK (length(content) = 32),
    subject TEXT NOT NULL,
    author TEXT NOT NULL CHECK (author <> ''),
    reason TEXT NOT NULL CHECK (reason <> ''),
    at BIGINT NOT NULL CHECK (at >= 0),
    CHECK ((act = 1) = (content IS NOT NULL))
);

-- A project that the filter had suspended is let in again by hand (4): that is a line, too.
ALTER TABLE stop_log DROP CONSTRAINT stop_log_act_check;
ALTER TABLE stop_log ADD CONSTRAINT stop_log_act_check CHECK (act BETWEEN 1 AND 4);
