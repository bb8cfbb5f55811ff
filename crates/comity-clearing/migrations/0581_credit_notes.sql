-- Credit notes (spec/07-settlement.md §11): what owners gave back of what they had earned under a token, as it came.
CREATE TABLE credit_note (
    -- Content id.
    id       BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    -- The node's own, once for each node.
    note     BLOB    NOT NULL CHECK (length(note) = 16),
    node     BLOB    NOT NULL CHECK (length(node) = 16),
    token    BLOB    NOT NULL REFERENCES token (id),
    amount   INTEGER NOT NULL CHECK (amount > 0),
    bytes    BLOB    NOT NULL CHECK (length(bytes) <= 1024),
    reply    TEXT    NOT NULL,
    taken_at INTEGER NOT NULL,
    UNIQUE (node, note)
) STRICT, WITHOUT ROWID;
CREATE INDEX credit_note_by_token ON credit_note (token);

-- What of the paid was given back.
ALTER TABLE token ADD COLUMN credited INTEGER NOT NULL DEFAULT 0 CHECK (credited BETWEEN 0 AND paid);

CREATE TRIGGER credit_note_is_kept BEFORE DELETE ON credit_note
BEGIN SELECT RAISE(ABORT, 'evidence is never deleted'); END;
CREATE TRIGGER credit_note_stays BEFORE UPDATE ON credit_note
BEGIN SELECT RAISE(ABORT, 'what was booked is never changed'); END;
CREATE TRIGGER token_is_not_charged_again BEFORE UPDATE OF credited ON token WHEN NEW.credited < OLD.credited
BEGIN SELECT RAISE(ABORT, 'what was given back is not taken again'); END;

CREATE TRIGGER credit_note_is_logged AFTER INSERT ON credit_note
BEGIN
    INSERT INTO unsealed (place, kind, token, content, number)
    SELECT COALESCE(MAX(seq), 0), 7, NEW.token, NEW.id, NEW.amount FROM transfer;
END;
