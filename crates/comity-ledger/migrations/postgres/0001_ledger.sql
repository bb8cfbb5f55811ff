-- Accounts and transfers. Each CHECK and trigger backs a rule of decide.rs: the second line of defence, also against
-- other programs. Numbers are BIGINT throughout: INTEGER has 32 bits here and 64 elsewhere.

-- Whoever writes locks this row first, and so writes alone (decision 0035).
CREATE TABLE writing (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1)
);
INSERT INTO writing (one) VALUES (1);

CREATE TABLE account (
    id         BYTEA  NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    unit       BIGINT NOT NULL CHECK (unit BETWEEN 1 AND 4294967295),
    code       BIGINT NOT NULL CHECK (code BETWEEN 1 AND 65535),
    -- 0 none, 1 debits within credits, 2 credits within debits
    limited    BIGINT NOT NULL CHECK (limited BETWEEN 0 AND 2),
    reference  BYTEA  NOT NULL CHECK (length(reference) = 16),
    debits     BIGINT NOT NULL CHECK (debits >= 0),
    credits    BIGINT NOT NULL CHECK (credits >= 0),
    opened_at  BIGINT NOT NULL CHECK (opened_at >= 0),
    CHECK (limited <> 1 OR debits <= credits),
    CHECK (limited <> 2 OR credits <= debits)
);

CREATE TABLE transfer (
    -- Dense from 1: one writer at a time, and what was posted is never deleted.
    seq        BIGINT NOT NULL PRIMARY KEY CHECK (seq >= 1),
    id         BYTEA  NOT NULL UNIQUE CHECK (length(id) = 16),
    kind       BIGINT NOT NULL CHECK (kind BETWEEN 1 AND 65535),
    debit_id   BYTEA  NOT NULL REFERENCES account (id),
    credit_id  BYTEA  NOT NULL REFERENCES account (id),
    unit       BIGINT NOT NULL CHECK (unit BETWEEN 1 AND 4294967295),
    amount     BIGINT NOT NULL CHECK (amount > 0),
    reference  BYTEA  NOT NULL CHECK (length(reference) = 16),
    evidence   BYTEA  NOT NULL CHECK (length(evidence) = 32),
    posted_at  BIGINT NOT NULL CHECK (posted_at >= 0),
    CHECK (debit_id <> credit_id)
);

CREATE INDEX transfer_by_debit ON transfer (debit_id, seq);
CREATE INDEX transfer_by_credit ON transfer (credit_id, seq);

CREATE FUNCTION account_opens_empty() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.debits <> 0 OR NEW.credits <> 0 THEN
        RAISE EXCEPTION 'an account opens empty' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER account_opens_empty BEFORE INSERT ON account
FOR EACH ROW EXECUTE FUNCTION account_opens_empty();

CREATE FUNCTION account_keeps_its_terms() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.unit, NEW.code, NEW.limited, NEW.reference, NEW.opened_at)
        IS DISTINCT FROM (OLD.id, OLD.unit, OLD.code, OLD.limited, OLD.reference, OLD.opened_at) THEN
        RAISE EXCEPTION 'the terms of an account never change' USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.debits < OLD.debits OR NEW.credits < OLD.credits THEN
        RAISE EXCEPTION 'the sums of an account only grow' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER account_keeps_its_terms BEFORE UPDATE ON account
FOR EACH ROW EXECUTE FUNCTION account_keeps_its_terms();

CREATE FUNCTION rows_are_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never changed or deleted', TG_TABLE_NAME USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER account_is_kept BEFORE DELETE ON account FOR EACH ROW EXECUTE FUNCTION rows_are_kept();
CREATE TRIGGER transfer_is_kept BEFORE UPDATE OR DELETE ON transfer FOR EACH ROW EXECUTE FUNCTION rows_are_kept();
CREATE TRIGGER account_is_emptied BEFORE TRUNCATE ON account FOR EACH STATEMENT EXECUTE FUNCTION rows_are_kept();
CREATE TRIGGER transfer_is_emptied BEFORE TRUNCATE ON transfer FOR EACH STATEMENT EXECUTE FUNCTION rows_are_kept();
