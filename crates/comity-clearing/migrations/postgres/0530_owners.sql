-- How owners are paid: dated terms, kept for good, and of each payment which token's earnings it was for.
-- Kind: 1 recharge, 2 commercial, 3 agency, 4 none.
CREATE TABLE owner_terms (
    -- The act that set them.
    act         BYTEA   NOT NULL PRIMARY KEY CHECK (length(act) = 32),
    owner       BYTEA   NOT NULL CHECK (length(owner) = 16),
    -- The order in which an owner's terms were set: of two from the same moment the later ones hold.
    place       BIGINT  NOT NULL CHECK (place >= 1),
    kind        BIGINT  NOT NULL CHECK (kind BETWEEN 1 AND 4),
    -- Schedule, contract or agreement; empty where there is none.
    reference   TEXT    NOT NULL,
    -- The date of the schedule.
    dated_at    BIGINT,
    -- No more is payable under them.
    ceiling     BIGINT  CHECK (ceiling > 0),
    -- What was sold from this moment on, and before that one, is paid by them.
    from_at     BIGINT  NOT NULL,
    ends_at     BIGINT  CHECK (ends_at > from_at),
    -- Whether they pay what was sold before them and no terms paid.
    arrears     BIGINT  NOT NULL CHECK (arrears IN (0, 1)),
    pays        BIGINT  NOT NULL CHECK (pays IN (0, 1)),
    recorded_at BIGINT  NOT NULL,
    UNIQUE (owner, place)
);


-- What left an owner's payable, in one transfer.
CREATE TABLE payout (
    transfer BYTEA   NOT NULL PRIMARY KEY REFERENCES transfer (id),
    owner    BYTEA   NOT NULL CHECK (length(owner) = 16),
    -- The payment run, or the payment that was recorded by itself.
    run      TEXT    NOT NULL,
    paid_on  BIGINT  NOT NULL,
    -- It is for what was earned before this moment.
    until_at BIGINT  NOT NULL,
    amount   BIGINT  NOT NULL CHECK (amount > 0),
    -- What open disputes kept from the owner when it was made.
    held     BIGINT  NOT NULL CHECK (held >= 0),
    act      BYTEA   NOT NULL CHECK (length(act) = 32),
    made_at  BIGINT  NOT NULL,
    -- 0: recorded before payments had lines.
    lined    BIGINT  NOT NULL CHECK (lined IN (0, 1))
);
CREATE INDEX payout_by_owner ON payout (owner, made_at);
CREATE INDEX payout_by_run ON payout (run, owner);

INSERT INTO payout (transfer, owner, run, paid_on, until_at, amount, held, act, made_at, lined)
SELECT id, reference, '', posted_at, posted_at, amount, 0, evidence, posted_at, 0 FROM transfer WHERE kind = 10;

CREATE TABLE payout_line (
    payout BYTEA   NOT NULL REFERENCES payout (transfer),
    place  BIGINT  NOT NULL CHECK (place >= 0),
    owner  BYTEA   NOT NULL CHECK (length(owner) = 16),
    token  BYTEA   NOT NULL REFERENCES token (id),
    terms  BYTEA   NOT NULL REFERENCES owner_terms (act),
    -- What of the token's earnings was paid out before this line.
    begins BIGINT  NOT NULL CHECK (begins >= 0),
    -- Below zero: a dispute took back what was paid out before.
    amount BIGINT  NOT NULL CHECK (amount <> 0),
    PRIMARY KEY (payout, place)
);
CREATE INDEX payout_line_by_owner ON payout_line (owner, token);
CREATE INDEX payout_line_by_terms ON payout_line (terms);

CREATE TRIGGER owner_terms_are_kept BEFORE UPDATE OR DELETE ON owner_terms FOR EACH ROW EXECUTE FUNCTION rows_are_kept();
CREATE TRIGGER payout_is_kept BEFORE UPDATE OR DELETE ON payout FOR EACH ROW EXECUTE FUNCTION rows_are_kept();
CREATE TRIGGER payout_line_is_kept BEFORE UPDATE OR DELETE ON payout_line FOR EACH ROW EXECUTE FUNCTION rows_are_kept();
