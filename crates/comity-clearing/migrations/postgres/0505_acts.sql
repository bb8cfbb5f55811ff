-- Who keeps the books, and what they did that needs two of them. State: 0 waits for a second person, 1 done.
CREATE TABLE officer (
    key        BYTEA   NOT NULL PRIMARY KEY CHECK (length(key) = 32),
    -- The person: two keys with one name are one person.
    name       TEXT    NOT NULL,
    added_at   BIGINT  NOT NULL,
    removed_at BIGINT
);

CREATE TABLE act (
    -- Digest of its body.
    id          BYTEA   NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    kind        TEXT    NOT NULL,
    body        TEXT    NOT NULL,
    -- Null: the operator alone, while fewer than two officers were registered.
    proposer    BYTEA   REFERENCES officer (key),
    proposal    BYTEA   CHECK (length(proposal) = 64),
    proposed_at BIGINT  NOT NULL,
    approver    BYTEA   REFERENCES officer (key),
    approval    BYTEA   CHECK (length(approval) = 64),
    done_at     BIGINT,
    state       BIGINT  NOT NULL CHECK (state IN (0, 1)),
    CHECK ((state = 1) = (done_at IS NOT NULL)),
    CHECK ((proposer IS NULL) = (proposal IS NULL)),
    CHECK ((approver IS NULL) = (approval IS NULL)),
    CHECK (approver IS NULL OR approver <> proposer)
);
CREATE INDEX act_waiting ON act (proposed_at) WHERE state = 0;
CREATE INDEX act_by_time ON act (proposed_at);

CREATE FUNCTION act_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what was done is never changed or deleted' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER act_is_kept BEFORE DELETE ON act FOR EACH ROW WHEN (OLD.state = 1) EXECUTE FUNCTION act_is_kept();
CREATE TRIGGER act_is_never_changed BEFORE UPDATE ON act FOR EACH ROW WHEN (OLD.state = 1) EXECUTE FUNCTION act_is_kept();
