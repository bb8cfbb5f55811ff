-- Projects, their awards and tokens, and what was settled under them. Beside the ledger's tables, in the same file.
-- Times are seconds, amounts µcr; ids are 16 bytes, digests and keys 32. Phase: 0 open, 1 final, 2 closed.

CREATE TABLE project (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    title      TEXT    NOT NULL,
    purposes   TEXT    NOT NULL,
    frozen     INTEGER NOT NULL DEFAULT 0 CHECK (frozen IN (0, 1)),
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE member (
    project    BLOB    NOT NULL REFERENCES project (id),
    key        BLOB    NOT NULL CHECK (length(key) = 32),
    added_at   INTEGER NOT NULL,
    PRIMARY KEY (project, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX member_by_key ON member (key);

-- Evidence for what the house states of a project. Rows are added, never changed.
CREATE TABLE vetting (
    seq         INTEGER NOT NULL PRIMARY KEY,
    project     BLOB    NOT NULL REFERENCES project (id),
    value       INTEGER NOT NULL CHECK (value BETWEEN 0 AND 2),
    issuer      TEXT    NOT NULL,
    claim       TEXT    NOT NULL,
    from_at     INTEGER NOT NULL,
    until_at    INTEGER CHECK (until_at > from_at),
    recorded_at INTEGER NOT NULL
) STRICT;
CREATE INDEX vetting_by_project ON vetting (project, seq);

-- One award is one lot for now: a dated part of the allocation that knows its funder and award number.
CREATE TABLE award (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    project      BLOB    NOT NULL REFERENCES project (id),
    amount       INTEGER NOT NULL CHECK (amount > 0),
    funder       TEXT    NOT NULL,
    award_number TEXT    NOT NULL,
    ends_at      INTEGER NOT NULL,
    awarded_at   INTEGER NOT NULL,
    UNIQUE (project, funder, award_number)
) STRICT, WITHOUT ROWID;

CREATE TABLE quote (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    project    BLOB    NOT NULL REFERENCES project (id),
    node       BLOB    NOT NULL CHECK (length(node) = 16),
    bytes      BLOB    NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Every tariff that a quote pinned, whatever its owner publishes later.
CREATE TABLE tariff (
    id    BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    bytes BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE token (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    -- Null: the house learnt of this token from a claim (rule 9).
    project    BLOB    REFERENCES project (id),
    node       BLOB    NOT NULL CHECK (length(node) = 16),
    owner      BLOB    NOT NULL CHECK (length(owner) = 16),
    budget     INTEGER NOT NULL CHECK (budget >= 0),
    window     INTEGER NOT NULL CHECK (window >= 0),
    lanes_max  INTEGER NOT NULL CHECK (lanes_max BETWEEN 1 AND 1024),
    issued_at  INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    settle_by  INTEGER NOT NULL,
    -- Digest of what was asked for, so that a repeat is told from another.
    request    BLOB    NOT NULL CHECK (length(request) = 32),
    -- The token before it is signed, and the key that signs it: a retry signs the same bytes again.
    payload    BLOB,
    issuer     BLOB    CHECK (length(issuer) = 32),
    content    BLOB    CHECK (length(content) = 32),
    bytes      BLOB,
    phase      INTEGER NOT NULL DEFAULT 0 CHECK (phase BETWEEN 0 AND 2),
    final      BLOB    CHECK (length(final) = 32),
    paid       INTEGER NOT NULL DEFAULT 0 CHECK (paid >= 0),
    refunded   INTEGER NOT NULL DEFAULT 0 CHECK (refunded >= 0),
    clamped    INTEGER NOT NULL DEFAULT 0 CHECK (clamped >= 0),
    waiting    INTEGER NOT NULL DEFAULT 0 CHECK (waiting >= 0),
    movements  INTEGER NOT NULL DEFAULT 0 CHECK (movements >= 0),
    CHECK (paid <= budget),
    CHECK (refunded <= budget)
) STRICT, WITHOUT ROWID;
CREATE INDEX token_by_project ON token (project);
CREATE INDEX token_by_deadline ON token (settle_by) WHERE phase < 2;
CREATE INDEX token_waiting ON token (id) WHERE waiting > 0;

CREATE TABLE lane (
    token        BLOB    NOT NULL REFERENCES token (id),
    leaf         BLOB    NOT NULL CHECK (length(leaf) = 32),
    lane         INTEGER NOT NULL CHECK (lane BETWEEN 0 AND 1023),
    path         TEXT    NOT NULL,
    n            INTEGER NOT NULL CHECK (n >= 1),
    total        INTEGER NOT NULL CHECK (total >= 0),
    receipt      BLOB    NOT NULL CHECK (length(receipt) = 32),
    history      BLOB    NOT NULL CHECK (length(history) = 32),
    acknowledged INTEGER NOT NULL CHECK (acknowledged >= 0),
    paid         INTEGER NOT NULL CHECK (paid >= 0),
    tails        TEXT    NOT NULL,
    PRIMARY KEY (token, leaf, lane),
    CHECK (paid <= total),
    CHECK (acknowledged <= total)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER lane_only_grows BEFORE UPDATE ON lane
WHEN NEW.n < OLD.n OR NEW.total < OLD.total OR NEW.paid < OLD.paid
BEGIN SELECT RAISE(ABORT, 'a settled lane only grows'); END;

-- Where a final says that a lane ended.
CREATE TABLE head (
    token   BLOB    NOT NULL REFERENCES token (id),
    leaf    BLOB    NOT NULL CHECK (length(leaf) = 32),
    lane    INTEGER NOT NULL,
    n       INTEGER NOT NULL,
    total   INTEGER NOT NULL CHECK (total >= 0),
    receipt BLOB    NOT NULL CHECK (length(receipt) = 32),
    PRIMARY KEY (token, leaf, lane)
) STRICT, WITHOUT ROWID;

-- Which lanes a settlement transfer paid.
CREATE TABLE line (
    transfer BLOB    NOT NULL REFERENCES transfer (id),
    token    BLOB    NOT NULL,
    leaf     BLOB    NOT NULL,
    lane     INTEGER NOT NULL,
    amount   INTEGER NOT NULL CHECK (amount > 0),
    PRIMARY KEY (transfer, leaf, lane),
    FOREIGN KEY (token, leaf, lane) REFERENCES lane (token, leaf, lane)
) STRICT, WITHOUT ROWID;
CREATE INDEX line_by_lane ON line (token, leaf, lane);

CREATE TABLE claim (
    id       BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    token    BLOB    NOT NULL REFERENCES token (id),
    number   INTEGER NOT NULL,
    bytes    BLOB    NOT NULL,
    reply    TEXT    NOT NULL,
    taken_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX claim_by_token ON claim (token);

CREATE TABLE final (
    id       BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    token    BLOB    NOT NULL REFERENCES token (id),
    bytes    BLOB    NOT NULL,
    taken_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE exception (
    seq      INTEGER NOT NULL PRIMARY KEY,
    token    BLOB    NOT NULL REFERENCES token (id),
    code     TEXT    NOT NULL,
    amount   INTEGER NOT NULL CHECK (amount > 0),
    message  TEXT    NOT NULL,
    evidence BLOB    NOT NULL CHECK (length(evidence) = 32),
    at       INTEGER NOT NULL
) STRICT;
CREATE INDEX exception_by_token ON exception (token);

-- When the house took claims: a heartbeat makes the newest span longer, or opens one after a gap.
CREATE TABLE open_span (
    begins_at INTEGER NOT NULL PRIMARY KEY,
    ends_at   INTEGER NOT NULL CHECK (ends_at >= begins_at)
) STRICT;

-- Every receipt key that was ever certified to a node: claims and finals stand under it for good.
CREATE TABLE node_key (
    node    BLOB    NOT NULL CHECK (length(node) = 16),
    key     BLOB    NOT NULL CHECK (length(key) = 32),
    owner   BLOB    NOT NULL CHECK (length(owner) = 16),
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (node, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE pseudonym (
    subject BLOB NOT NULL PRIMARY KEY CHECK (length(subject) = 16),
    project BLOB NOT NULL REFERENCES project (id),
    owner   BLOB NOT NULL CHECK (length(owner) = 16),
    UNIQUE (project, owner)
) STRICT, WITHOUT ROWID;

CREATE TABLE revocation (
    kind    INTEGER NOT NULL,
    subject TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (kind, subject)
) STRICT, WITHOUT ROWID;

CREATE TABLE standing (
    number    INTEGER NOT NULL PRIMARY KEY CHECK (number >= 1),
    bytes     BLOB    NOT NULL,
    issued_at INTEGER NOT NULL
) STRICT;
