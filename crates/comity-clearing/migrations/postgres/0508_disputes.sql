-- Challenges: receipts that a node is asked to show. Cause: 1 drawn from a claim, 2 a holder's. State: 0 open, 1 answered, 2 missed.
CREATE TABLE challenge (
    id        BYTEA   NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    token     BYTEA   NOT NULL REFERENCES token (id),
    leaf      BYTEA   NOT NULL CHECK (length(leaf) = 32),
    lane      BIGINT  NOT NULL,
    cause     BIGINT  NOT NULL CHECK (cause IN (1, 2)),
    -- The claim that brought the newest receipt, in whose history the others must lie.
    claim     BYTEA   NOT NULL REFERENCES claim (id),
    n         BIGINT  NOT NULL CHECK (n >= 1),
    total     BIGINT  NOT NULL CHECK (total >= 0),
    receipt   BYTEA   NOT NULL CHECK (length(receipt) = 32),
    history   BYTEA   NOT NULL CHECK (length(history) = 32),
    -- JSON lists of receipt numbers.
    asked     TEXT    NOT NULL,
    shown     TEXT    NOT NULL,
    seed      BYTEA   NOT NULL CHECK (length(seed) = 32),
    -- Of a drawn one: the size of the checkpoint that drew it.
    log_size  BIGINT  NOT NULL CHECK (log_size >= 0),
    reason    TEXT    NOT NULL,
    posted_at BIGINT  NOT NULL,
    state     BIGINT  NOT NULL CHECK (state BETWEEN 0 AND 2),
    ended_at  BIGINT,
    CHECK ((state = 0) = (ended_at IS NULL))
);
CREATE INDEX challenge_open ON challenge (posted_at, id) WHERE state = 0;
CREATE INDEX challenge_by_token ON challenge (token);

-- Disputes: a node broke its word under a token; nothing is paid under it until two persons have decided. State: 0 open,
-- 1 upheld (the node keeps what it earned), 2 reversed.
CREATE TABLE dispute (
    id        BYTEA   NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    token     BYTEA   NOT NULL REFERENCES token (id),
    cause     TEXT    NOT NULL,
    -- The contradiction or the challenge that it rests on.
    evidence  BYTEA   NOT NULL CHECK (length(evidence) = 32),
    -- What was taken from the owner's payable when it was opened.
    held      BIGINT  NOT NULL CHECK (held >= 0),
    opened_at BIGINT  NOT NULL,
    state     BIGINT  NOT NULL CHECK (state BETWEEN 0 AND 2),
    ended_at  BIGINT,
    -- The act that ended it.
    act       BYTEA   CHECK (length(act) = 32),
    CHECK ((state = 0) = (ended_at IS NULL)),
    CHECK ((state = 0) = (act IS NULL))
);
CREATE UNIQUE INDEX dispute_open ON dispute (token) WHERE state = 0;
CREATE INDEX dispute_by_token ON dispute (token);

-- 0 nothing, 1 tails, 2 all: what is not paid now.
ALTER TABLE token ADD COLUMN frozen BIGINT  NOT NULL DEFAULT 0 CHECK (frozen BETWEEN 0 AND 2);
ALTER TABLE lane ADD COLUMN acknowledged_n BIGINT  NOT NULL DEFAULT 0 CHECK (acknowledged_n >= 0);
ALTER TABLE lane ADD COLUMN proven BIGINT  NOT NULL DEFAULT 0 CHECK (proven >= 0);
ALTER TABLE lane ADD COLUMN stopped BIGINT  CHECK (stopped >= 0);

-- Whether it was decided which receipts of a claim are asked for. Claims from before are not asked about.
ALTER TABLE claim ADD COLUMN drawn BIGINT  NOT NULL DEFAULT 1 CHECK (drawn IN (0, 1));
CREATE INDEX claim_to_draw ON claim (taken_at, id) WHERE drawn = 0;

CREATE FUNCTION ends_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what has ended is never changed, and evidence is never deleted' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER challenge_is_kept BEFORE DELETE ON challenge FOR EACH ROW EXECUTE FUNCTION ends_once();
CREATE TRIGGER challenge_has_ended BEFORE UPDATE ON challenge FOR EACH ROW WHEN (OLD.state <> 0) EXECUTE FUNCTION ends_once();
CREATE TRIGGER dispute_is_kept BEFORE DELETE ON dispute FOR EACH ROW EXECUTE FUNCTION ends_once();
CREATE TRIGGER dispute_has_ended BEFORE UPDATE ON dispute FOR EACH ROW WHEN (OLD.state <> 0) EXECUTE FUNCTION ends_once();
