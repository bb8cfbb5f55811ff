-- What owners' people decided, as their nodes sealed it (spec/11-access.md §9): heads as they came, and where the log has them.
CREATE TABLE decision_head (
    node     BYTEA   NOT NULL CHECK (length(node) = 16),
    n        BIGINT  NOT NULL CHECK (n >= 1),
    log      BIGINT  NOT NULL CHECK (log >= 1),
    size     BIGINT  NOT NULL CHECK (size >= 1),
    root     BYTEA   NOT NULL CHECK (length(root) = 32),
    content  BYTEA   NOT NULL UNIQUE CHECK (length(content) = 32),
    bytes    BYTEA   NOT NULL CHECK (length(bytes) <= 512),
    taken_at BIGINT  NOT NULL,
    PRIMARY KEY (node, n)
);

CREATE TABLE decision_place (
    content BYTEA   NOT NULL PRIMARY KEY REFERENCES decision_head (content),
    idx     BIGINT  NOT NULL CHECK (idx >= 0)
);

CREATE TRIGGER decision_head_is_kept BEFORE UPDATE OR DELETE ON decision_head FOR EACH ROW EXECUTE FUNCTION rows_are_kept();

CREATE FUNCTION decision_head_is_logged() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO unsealed (place, kind, token, content, number)
    SELECT COALESCE(MAX(seq), 0), 6, NULL, NEW.content, NEW.n FROM transfer;
    RETURN NEW;
END $$;
CREATE TRIGGER decision_head_is_logged AFTER INSERT ON decision_head FOR EACH ROW EXECUTE FUNCTION decision_head_is_logged();
