-- Which tariff was quoted for an op of a model, first and last. The tariff itself stands in `tariff`, as its owner signed it.
CREATE TABLE price (
    model    TEXT    NOT NULL,
    op       TEXT    NOT NULL,
    tariff   BYTEA   NOT NULL REFERENCES tariff (id),
    owner    BYTEA   NOT NULL CHECK (length(owner) = 16),
    first_at BIGINT  NOT NULL,
    last_at  BIGINT  NOT NULL CHECK (last_at >= first_at),
    PRIMARY KEY (model, op, tariff)
);
CREATE INDEX price_by_owner ON price (owner, model);

CREATE TRIGGER price_is_kept BEFORE DELETE ON price FOR EACH ROW EXECUTE FUNCTION rows_are_kept();
CREATE TRIGGER price_keeps_its_terms BEFORE UPDATE OF model, op, tariff, owner ON price FOR EACH ROW EXECUTE FUNCTION rows_are_kept();

-- Whether the quotes of before were looked through: the last one that was, by its id; empty: none yet.
CREATE TABLE price_begun (
    one  BIGINT  NOT NULL PRIMARY KEY CHECK (one = 1),
    looked BYTEA NOT NULL,
    done BIGINT  NOT NULL CHECK (done IN (0, 1))
);
INSERT INTO price_begun (one, looked, done) VALUES (1, '', 0);
