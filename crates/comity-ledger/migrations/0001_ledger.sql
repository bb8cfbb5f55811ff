-- Accounts, transfers, and the mark that tells whether a commit happened.
-- Each CHECK and trigger backs a rule of decide.rs: the second line of defence, also against other programs.

CREATE TABLE account (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    unit       INTEGER NOT NULL CHECK (unit BETWEEN 1 AND 4294967295),
    code       INTEGER NOT NULL CHECK (code BETWEEN 1 AND 65535),
    -- 0 none, 1 debits within credits, 2 credits within debits
    limited    INTEGER NOT NULL CHECK (limited BETWEEN 0 AND 2),
    reference  BLOB    NOT NULL CHECK (length(reference) = 16),
    debits     INTEGER NOT NULL CHECK (debits >= 0),
    credits    INTEGER NOT NULL CHECK (credits >= 0),
    opened_at  INTEGER NOT NULL CHECK (opened_at >= 0),
    CHECK (limited <> 1 OR debits <= credits),
    CHECK (limited <> 2 OR credits <= debits)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER account_opens_empty BEFORE INSERT ON account
WHEN NEW.debits <> 0 OR NEW.credits <> 0
BEGIN SELECT RAISE(ABORT, 'an account opens empty'); END;

CREATE TRIGGER account_keeps_its_terms BEFORE UPDATE OF id, unit, code, limited, reference, opened_at ON account
BEGIN SELECT RAISE(ABORT, 'the terms of an account never change'); END;

CREATE TRIGGER account_sums_only_grow BEFORE UPDATE OF debits, credits ON account
WHEN NEW.debits < OLD.debits OR NEW.credits < OLD.credits
BEGIN SELECT RAISE(ABORT, 'the sums of an account only grow'); END;

CREATE TRIGGER account_is_kept BEFORE DELETE ON account
BEGIN SELECT RAISE(ABORT, 'accounts are never deleted'); END;

CREATE TABLE transfer (
    -- Dense from 1: one writer, and what was posted is never deleted.
    seq        INTEGER NOT NULL PRIMARY KEY CHECK (seq >= 1),
    id         BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    kind       INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 65535),
    debit_id   BLOB    NOT NULL REFERENCES account (id),
    credit_id  BLOB    NOT NULL REFERENCES account (id),
    unit       INTEGER NOT NULL CHECK (unit BETWEEN 1 AND 4294967295),
    amount     INTEGER NOT NULL CHECK (amount > 0),
    reference  BLOB    NOT NULL CHECK (length(reference) = 16),
    evidence   BLOB    NOT NULL CHECK (length(evidence) = 32),
    posted_at  INTEGER NOT NULL CHECK (posted_at >= 0),
    CHECK (debit_id <> credit_id)
) STRICT;

CREATE INDEX transfer_by_debit ON transfer (debit_id, seq);
CREATE INDEX transfer_by_credit ON transfer (credit_id, seq);

CREATE TRIGGER transfer_is_never_changed BEFORE UPDATE ON transfer
BEGIN SELECT RAISE(ABORT, 'transfers are never changed'); END;

CREATE TRIGGER transfer_is_kept BEFORE DELETE ON transfer
BEGIN SELECT RAISE(ABORT, 'transfers are never deleted'); END;

-- One more with every group commit: after a COMMIT whose answer was lost, it says whether the commit happened.
CREATE TABLE commit_mark (
    one    INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    number INTEGER NOT NULL CHECK (number >= 0)
) STRICT;

INSERT INTO commit_mark (one, number) VALUES (1, 0);
