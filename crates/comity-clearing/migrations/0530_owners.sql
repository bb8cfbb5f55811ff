-- How owners are paid: dated terms, kept for good, and of each payment which token's earnings it was for.
-- Kind: 1 recharge, 2 commercial, 3 agency, 4 none.
CREATE TABLE owner_terms (
    -- The act that set them.
    act         BLOB    NOT NULL PRIMARY KEY CHECK (length(act) = 32),
    owner       BLOB    NOT NULL CHECK (length(owner) = 16),
    -- The order in which an owner's terms were set: of two from the same moment the later ones hold.
    place       INTEGER NOT NULL CHECK (place >= 1),
    kind        INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 4),
    -- Schedule, contract or agreement; empty where there is none.
    reference   TEXT    NOT NULL,
    -- The date of the schedule.
    dated_at    INTEGER,
    -- No more is payable under them.
    ceiling     INTEGER CHECK (ceiling > 0),
    -- What was sold from this moment on, and before that one, is paid by them.
    from_at     INTEGER NOT NULL,
    ends_at     INTEGER CHECK (ends_at > from_at),
    -- Whether they pay what was sold before them and no terms paid.
    arrears     INTEGER NOT NULL CHECK (arrears IN (0, 1)),
    pays        INTEGER NOT NULL CHECK (pays IN (0, 1)),
    recorded_at INTEGER NOT NULL,
    UNIQUE (owner, place)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER owner_terms_are_kept BEFORE DELETE ON owner_terms
BEGIN SELECT RAISE(ABORT, 'terms are never deleted'); END;
CREATE TRIGGER owner_terms_are_never_changed BEFORE UPDATE ON owner_terms
BEGIN SELECT RAISE(ABORT, 'terms are never changed: set others'); END;

-- What left an owner's payable, in one transfer.
CREATE TABLE payout (
    transfer BLOB    NOT NULL PRIMARY KEY REFERENCES transfer (id),
    owner    BLOB    NOT NULL CHECK (length(owner) = 16),
    -- The payment run, or the payment that was recorded by itself.
    run      TEXT    NOT NULL,
    paid_on  INTEGER NOT NULL,
    -- It is for what was earned before this moment.
    until_at INTEGER NOT NULL,
    amount   INTEGER NOT NULL CHECK (amount > 0),
    -- What open disputes kept from the owner when it was made.
    held     INTEGER NOT NULL CHECK (held >= 0),
    act      BLOB    NOT NULL CHECK (length(act) = 32),
    made_at  INTEGER NOT NULL,
    -- 0: recorded before payments had lines.
    lined    INTEGER NOT NULL CHECK (lined IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE INDEX payout_by_owner ON payout (owner, made_at);
CREATE INDEX payout_by_run ON payout (run, owner);

INSERT INTO payout (transfer, owner, run, paid_on, until_at, amount, held, act, made_at, lined)
SELECT id, reference, '', posted_at, posted_at, amount, 0, evidence, posted_at, 0 FROM transfer WHERE kind = 10;

CREATE TABLE payout_line (
    payout BLOB    NOT NULL REFERENCES payout (transfer),
    place  INTEGER NOT NULL CHECK (place >= 0),
    owner  BLOB    NOT NULL CHECK (length(owner) = 16),
    token  BLOB    NOT NULL REFERENCES token (id),
    terms  BLOB    NOT NULL REFERENCES owner_terms (act),
    -- What of the token's earnings was paid out before this line.
    begins INTEGER NOT NULL CHECK (begins >= 0),
    -- Below zero: a dispute took back what was paid out before.
    amount INTEGER NOT NULL CHECK (amount <> 0),
    PRIMARY KEY (payout, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX payout_line_by_owner ON payout_line (owner, token);
CREATE INDEX payout_line_by_terms ON payout_line (terms);

CREATE TRIGGER payout_is_kept BEFORE DELETE ON payout
BEGIN SELECT RAISE(ABORT, 'payments are never deleted'); END;
CREATE TRIGGER payout_is_never_changed BEFORE UPDATE ON payout
BEGIN SELECT RAISE(ABORT, 'payments are never changed'); END;
CREATE TRIGGER payout_line_is_kept BEFORE DELETE ON payout_line
BEGIN SELECT RAISE(ABORT, 'payments are never deleted'); END;
CREATE TRIGGER payout_line_is_never_changed BEFORE UPDATE ON payout_line
BEGIN SELECT RAISE(ABORT, 'payments are never changed'); END;
