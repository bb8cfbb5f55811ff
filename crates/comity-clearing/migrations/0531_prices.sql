-- Which tariff was quoted for an op of a model, first and last. The tariff itself stands in `tariff`, as its owner signed it.
CREATE TABLE price (
    model    TEXT    NOT NULL,
    op       TEXT    NOT NULL,
    tariff   BLOB    NOT NULL REFERENCES tariff (id),
    owner    BLOB    NOT NULL CHECK (length(owner) = 16),
    first_at INTEGER NOT NULL,
    last_at  INTEGER NOT NULL CHECK (last_at >= first_at),
    PRIMARY KEY (model, op, tariff)
) STRICT, WITHOUT ROWID;
CREATE INDEX price_by_owner ON price (owner, model);

CREATE TRIGGER price_is_kept BEFORE DELETE ON price
BEGIN SELECT RAISE(ABORT, 'what was quoted is never deleted'); END;
CREATE TRIGGER price_keeps_its_terms BEFORE UPDATE OF model, op, tariff, owner ON price
BEGIN SELECT RAISE(ABORT, 'what was quoted is never changed'); END;

-- Whether the quotes of before were looked through: the last one that was, by its id; empty: none yet.
CREATE TABLE price_begun (
    one  INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    looked BLOB  NOT NULL,
    done INTEGER NOT NULL CHECK (done IN (0, 1))
) STRICT;
INSERT INTO price_begun (one, looked, done) VALUES (1, x'', 0);
