-- What projects of a central site's grants used, as records for its usage API. A record is made once, from one transfer, and never changed.
CREATE TABLE central_usage (
    central    TEXT    NOT NULL,
    -- LocalRecordID: the transfer's id.
    record     TEXT    NOT NULL,
    -- The transfer's place in the ledger.
    seq        INTEGER NOT NULL,
    project    BLOB    NOT NULL CHECK (length(project) = 16),
    -- 1 compute, 3 adjustment.
    kind       INTEGER NOT NULL CHECK (kind IN (1, 3)),
    body       TEXT    NOT NULL CHECK (length(body) <= 8192),
    -- 0 to be sent, 1 taken there, 2 refused there: the operator's move.
    state      INTEGER NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 2),
    error      TEXT    NOT NULL DEFAULT '',
    made_at    INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (central, record)
) STRICT, WITHOUT ROWID;
CREATE INDEX central_usage_open ON central_usage (central, state, kind, seq) WHERE state <> 1;

-- Up to where transfers were made into records.
CREATE TABLE central_reported (
    central TEXT    NOT NULL PRIMARY KEY,
    seq     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- µcr of a project that were made into records: totals are divided into service units, not records.
CREATE TABLE central_total (
    central TEXT    NOT NULL,
    project BLOB    NOT NULL CHECK (length(project) = 16),
    ucr     INTEGER NOT NULL,
    PRIMARY KEY (central, project)
) STRICT, WITHOUT ROWID;
