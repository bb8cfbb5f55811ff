-- A tail is paid once its node has shown what it rests on: a third cause, and which claim brought a lane's newest receipt.
CREATE TABLE challenge_next (
    id        BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    token     BLOB    NOT NULL REFERENCES token (id),
    leaf      BLOB    NOT NULL CHECK (length(leaf) = 32),
    lane      INTEGER NOT NULL,
    -- 1 drawn from a claim, 2 a holder's, 3 a tail that has stood its time.
    cause     INTEGER NOT NULL CHECK (cause BETWEEN 1 AND 3),
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
    -- Of one that a checkpoint drew: its size.
    log_size  INTEGER NOT NULL CHECK (log_size >= 0),
    reason    TEXT    NOT NULL,
    posted_at INTEGER NOT NULL,
    state     INTEGER NOT NULL CHECK (state BETWEEN 0 AND 2),
    ended_at  INTEGER,
    -- {receipt number: {seq, item}} as JSON: what was seen in what was shown.
    slots     TEXT    NOT NULL DEFAULT '{}',
    CHECK ((state = 0) = (ended_at IS NULL))
) STRICT, WITHOUT ROWID;
INSERT INTO challenge_next (id, token, leaf, lane, cause, claim, n, total, receipt, history, asked, shown, seed, log_size, reason,
    posted_at, state, ended_at, slots)
SELECT id, token, leaf, lane, cause, claim, n, total, receipt, history, asked, shown, seed, log_size, reason, posted_at, state, ended_at,
    slots FROM challenge;
DROP TABLE challenge;
ALTER TABLE challenge_next RENAME TO challenge;
CREATE INDEX challenge_open ON challenge (posted_at, id) WHERE state = 0;
CREATE INDEX challenge_by_token ON challenge (token);
CREATE TRIGGER challenge_is_kept BEFORE DELETE ON challenge
BEGIN SELECT RAISE(ABORT, 'evidence is never deleted'); END;
CREATE TRIGGER challenge_has_ended BEFORE UPDATE ON challenge WHEN OLD.state <> 0
BEGIN SELECT RAISE(ABORT, 'a challenge ends once'); END;
CREATE TRIGGER challenge_is_open AFTER INSERT ON challenge WHEN NEW.state = 0
BEGIN UPDATE token SET undecided = undecided + 1 WHERE id = NEW.token; END;
CREATE TRIGGER challenge_is_over AFTER UPDATE OF state ON challenge WHEN OLD.state = 0 AND NEW.state <> 0
BEGIN UPDATE token SET undecided = undecided - 1 WHERE id = NEW.token; END;
-- Of a lane from before: none.
ALTER TABLE lane ADD COLUMN claim BLOB CHECK (length(claim) = 32);
-- 0 nothing, 2 all: what is not paid now. No tail is, with or without a holder's challenge.
UPDATE token SET frozen = 0 WHERE frozen = 1;
