-- An award's terms, and its credits in lots: dated parts, each with accounts of its own in the ledger.
-- Kind: 1 federal, 2 institutional, 3 donated, 4 starter.
ALTER TABLE award ADD COLUMN listing TEXT NOT NULL DEFAULT '';
ALTER TABLE award ADD COLUMN kind BIGINT NOT NULL DEFAULT 2 CHECK (kind BETWEEN 1 AND 4);
ALTER TABLE award ADD COLUMN starts_at BIGINT NOT NULL DEFAULT 0;
-- JSON lists; an empty one restricts nothing.
ALTER TABLE award ADD COLUMN owners TEXT NOT NULL DEFAULT '[]';
ALTER TABLE award ADD COLUMN ops TEXT NOT NULL DEFAULT '[]';
-- Use it or lose it: what is left at a lot's end expires.
ALTER TABLE award ADD COLUMN forfeits BIGINT NOT NULL DEFAULT 0 CHECK (forfeits IN (0, 1));
ALTER TABLE award ADD COLUMN frozen BIGINT NOT NULL DEFAULT 0 CHECK (frozen IN (0, 1));
-- Given before there were lots, into the one account of its project.
ALTER TABLE award ADD COLUMN pooled BIGINT NOT NULL DEFAULT 0 CHECK (pooled IN (0, 1));
UPDATE award SET pooled = 1;

CREATE TABLE lot (
    id           BYTEA   NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    project      BYTEA   NOT NULL REFERENCES project (id),
    award        BYTEA   NOT NULL REFERENCES award (id),
    -- What it is called among the lots of its award.
    part         TEXT    NOT NULL,
    amount       BIGINT NOT NULL CHECK (amount > 0),
    opens_at     BIGINT NOT NULL,
    ends_at      BIGINT NOT NULL CHECK (ends_at > opens_at),
    -- Null: it waits for a report.
    released_at  BIGINT,
    report       TEXT    NOT NULL DEFAULT '',
    -- The lot that it was moved from.
    origin       BYTEA   REFERENCES lot (id),
    -- How often what was left in it has expired.
    expiries     BIGINT NOT NULL DEFAULT 0 CHECK (expiries >= 0)
);
CREATE INDEX lot_by_project ON lot (project);
CREATE INDEX lot_by_award ON lot (award);
CREATE INDEX lot_by_end ON lot (ends_at);

-- What a token took from each lot, in the order in which charges fall on them, and what of it came home.
CREATE TABLE draw (
    token    BYTEA   NOT NULL REFERENCES token (id),
    lot      BYTEA   NOT NULL REFERENCES lot (id),
    place    BIGINT NOT NULL CHECK (place >= 0),
    amount   BIGINT NOT NULL CHECK (amount > 0),
    returned BIGINT NOT NULL DEFAULT 0 CHECK (returned BETWEEN 0 AND amount),
    PRIMARY KEY (token, lot)
);
CREATE INDEX draw_by_lot ON draw (lot);

-- Before there were lots a project had one account, named by the project, that reserved until its last award ended: it
-- becomes one lot, named by the project, under that award.
INSERT INTO lot (id, project, award, part, amount, opens_at, ends_at, released_at)
SELECT a.project, a.project, a.id, '1', (SELECT CAST(SUM(b.amount) AS BIGINT) FROM award b WHERE b.project = a.project),
       (SELECT MIN(b.awarded_at) FROM award b WHERE b.project = a.project), a.ends_at, a.awarded_at
FROM award a WHERE a.id = (SELECT b.id FROM award b WHERE b.project = a.project ORDER BY b.ends_at DESC, b.id LIMIT 1);

INSERT INTO draw (token, lot, place, amount, returned)
SELECT id, project, 0, budget, refunded FROM token WHERE project IS NOT NULL AND budget > 0;
