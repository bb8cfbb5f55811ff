-- Credit notes (spec/07-settlement.md §11): what owners gave back of what they had earned under a token, as it came.
CREATE TABLE credit_note (
    -- Content id.
    id       BYTEA   NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    -- The node's own, once for each node.
    note     BYTEA   NOT NULL CHECK (length(note) = 16),
    node     BYTEA   NOT NULL CHECK (length(node) = 16),
    token    BYTEA   NOT NULL REFERENCES token (id),
    amount   BIGINT  NOT NULL CHECK (amount > 0),
    bytes    BYTEA   NOT NULL CHECK (length(bytes) <= 1024),
    reply    TEXT    NOT NULL,
    taken_at BIGINT  NOT NULL,
    UNIQUE (node, note)
);
CREATE INDEX credit_note_by_token ON credit_note (token);

-- What of the paid was given back.
ALTER TABLE token ADD COLUMN credited BIGINT  NOT NULL DEFAULT 0 CHECK (credited BETWEEN 0 AND paid);

CREATE TRIGGER credit_note_is_kept BEFORE UPDATE OR DELETE ON credit_note FOR EACH ROW EXECUTE FUNCTION rows_are_kept();

CREATE FUNCTION token_is_not_charged_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what was given back is not taken again' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER token_is_not_charged_again BEFORE UPDATE OF credited ON token FOR EACH ROW
WHEN (NEW.credited < OLD.credited) EXECUTE FUNCTION token_is_not_charged_again();

CREATE FUNCTION credit_note_is_logged() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO unsealed (place, kind, token, content, number)
    SELECT COALESCE(MAX(seq), 0), 7, NEW.token, NEW.id, NEW.amount FROM transfer;
    RETURN NEW;
END $$;
CREATE TRIGGER credit_note_is_logged AFTER INSERT ON credit_note FOR EACH ROW EXECUTE FUNCTION credit_note_is_logged();
