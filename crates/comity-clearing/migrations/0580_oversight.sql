-- What receipts count over several owners, by category (spec/07-settlement.md §10). Never a text.

-- What was counted of a lane already: its receipts have running totals.
CREATE TABLE lane_flag (
    token    BLOB NOT NULL REFERENCES token (id),
    leaf     BLOB NOT NULL CHECK (length(leaf) = 32),
    lane     INTEGER NOT NULL,
    category INTEGER NOT NULL,
    total    INTEGER NOT NULL CHECK (total >= 0),
    PRIMARY KEY (token, leaf, lane, category)
) STRICT, WITHOUT ROWID;

CREATE TABLE project_flag (
    project  BLOB NOT NULL REFERENCES project (id),
    category INTEGER NOT NULL,
    -- Hours since 1970.
    hour     INTEGER NOT NULL,
    owner    BLOB NOT NULL CHECK (length(owner) = 16),
    count    INTEGER NOT NULL CHECK (count >= 1),
    PRIMARY KEY (project, category, hour, owner)
) STRICT, WITHOUT ROWID;
CREATE INDEX project_flag_hour ON project_flag (hour);

CREATE TABLE advisory (
    project  BLOB NOT NULL REFERENCES project (id),
    category INTEGER NOT NULL,
    -- Days since 1970: once a day.
    day      INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    count    INTEGER NOT NULL,
    bound    INTEGER NOT NULL CHECK (bound >= 1),
    band     INTEGER NOT NULL CHECK (band IN (1, 2)),
    PRIMARY KEY (project, category, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX advisory_at ON advisory (at);
