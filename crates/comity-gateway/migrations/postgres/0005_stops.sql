-- What the owner's operator has stopped, until it is resumed; and who stopped and resumed what, when and why.
CREATE TABLE stop (
    -- 1 the node, 2 a model, 3 a project by its pseudonym.
    kind BIGINT NOT NULL CHECK (kind BETWEEN 1 AND 3),
    name TEXT NOT NULL CHECK ((kind = 1) = (name = '')),
    -- 1: what was running was ended too.
    ends_running BIGINT NOT NULL CHECK (ends_running IN (0, 1)),
    author TEXT NOT NULL CHECK (author <> ''),
    reason TEXT NOT NULL CHECK (reason <> ''),
    at BIGINT NOT NULL CHECK (at >= 0),
    PRIMARY KEY (kind, name)
);

-- Rows are added and never changed.
CREATE TABLE stop_log (
    n BIGINT NOT NULL PRIMARY KEY CHECK (n > 0),
    -- 1 stopped, 2 stopped with what was running, 3 resumed.
    act BIGINT NOT NULL CHECK (act BETWEEN 1 AND 3),
    kind BIGINT NOT NULL CHECK (kind BETWEEN 1 AND 3),
    name TEXT NOT NULL,
    author TEXT NOT NULL CHECK (author <> ''),
    reason TEXT NOT NULL CHECK (reason <> ''),
    at BIGINT NOT NULL CHECK (at >= 0)
);
