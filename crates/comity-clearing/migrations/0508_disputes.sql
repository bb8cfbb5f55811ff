-- Challenges: receipts that a node is asked to show. Cause: 1 drawn from a claim, 2 a holder's. State: 0 open, 1 answered, 2 missed.
CREATE TABLE challenge (
    id        BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    token     BLOB    NOT NULL REFERENCES token (id),
    leaf      BLOB    NOT NULL CHECK (length(leaf) = 32),
    lane      INTEGER NOT NULL,
    cause     INTEGER NOT NULL CHECK (cause IN (1, 2)),
    -- The claim that brought the newest receipt, in whose history the others must lie.
    claim     BLOB    NOT NULL REFERENCES claim (id),
    n         INTEGER NOT NULL CHECK (n >= 1),
    total     INTEGER NOT NULL CHECK (total >= 0),
    receipt   BLOB    NOT NULL CHECK (length(receipt) = 32),
    history   BLOB    NOT NULL CHECK (length(history) = 32),
    -- JSON lists of receipt numbers.
    asked     TEXT    NOT NULL,
    shown     TEXT    NOT NULL,
    seed      BLOB    NOT NULL CHECK (length(seed) = 32),
    -- Of a drawn one: the size of the checkpoint that drew it.
    log_size  INTEGER NOT NULL CHECK (log_size >= 0),
    reason    TEXT    NOT NULL,
    posted_at INTEGER NOT NULL,
    state     INTEGER NOT NULL CHECK (state BETWEEN 0 AND 2),
    ended_at  INTEGER,
    CHECK ((state = 0) = (ended_at IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX challenge_open ON challenge (posted_at, id) WHERE state = 0;
CREATE INDEX challenge_by_token ON challenge (token);

CREATE TRIGGER challenge_is_kept BEFORE DELETE ON challenge
BEGIN SELECT RAISE(ABORT, 'evidence is never deleted'); END;
CREATE TRIGGER challenge_has_ended BEFORE UPDATE ON challenge WHEN OLD.state <> 0
BEGIN SELECT RAISE(ABORT, 'a challenge ends once'); END;

-- Disputes: a node broke its word under a token; nothing is paid under it until two persons have decided. State: 0 open,
-- 1 upheld (the node keeps what it earned), 2 reversed.
CREATE TABLE dispute (
    id        BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    token     BLOB    NOT NULL REFERENCES token (id),
    cause     TEXT    NOT NULL,
    -- The contradiction or the challenge that it rests on.
    evidence  BLOB    NOT NULL CHECK (length(evidence) = 32),
    -- What was taken from the owner's payable when it was opened.
    held      INTEGER NOT NULL CHECK (held >= 0),
    opened_at INTEGER NOT NULL,
    state     INTEGER NOT NULL CHECK (state BETWEEN 0 AND 2),
    ended_at  INTEGER,
    -- The act that ended it.
    act       BLOB    CHECK (length(act) = 32),
    CHECK ((state = 0) = (ended_at IS NULL)),
    CHECK ((state = 0) = (act IS NULL))
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX dispute_open ON dispute (token) WHERE state = 0;
CREATE INDEX dispute_by_token ON dispute (token);

CREATE TRIGGER dispute_is_kept BEFORE DELETE ON dispute
BEGIN SELECT RAISE(ABORT, 'evidence is never deleted'); END;
CREATE TRIGGER dispute_has_ended BEFORE UPDATE ON dispute WHEN OLD.state <> 0
BEGIN SELECT RAISE(ABORT, 'a dispute ends once'); END;

-- 0 nothing, 1 tails, 2 all: what is not paid now.
ALTER TABLE token ADD COLUMN frozen INTEGER NOT NULL DEFAULT 0 CHECK (frozen BETWEEN 0 AND 2);
ALTER TABLE lane ADD COLUMN acknowledged_n INTEGER NOT NULL DEFAULT 0 CHECK (acknowledged_n >= 0);
ALTER TABLE lane ADD COLUMN proven INTEGER NOT NULL DEFAULT 0 CHECK (proven >= 0);
ALTER TABLE lane ADD COLUMN stopped INTEGER CHECK (stopped >= 0);

-- Whether it was decided which receipts of a claim are asked for. Claims from before are not asked about.
ALTER TABLE claim ADD COLUMN drawn INTEGER NOT NULL DEFAULT 1 CHECK (drawn IN (0, 1));
CREATE INDEX claim_to_draw ON claim (taken_at, id) WHERE drawn = 0;
