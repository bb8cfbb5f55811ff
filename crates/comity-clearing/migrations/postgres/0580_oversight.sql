-- What receipts count over several owners, by category (spec/07-settlement.md §10). Never a text.

-- What was counted of a lane already: its receipts have running totals.
CREATE TABLE lane_flag (
    token    BYTEA NOT NULL REFERENCES token (id),
    leaf     BYTEA NOT NULL CHECK (length(leaf) = 32),
    lane     BIGINT NOT NULL,
    category BIGINT NOT NULL,
    total    BIGINT NOT NULL CHECK (total >= 0),
    PRIMARY KEY (token, leaf, lane, category)
);

CREATE TABLE project_flag (
    project  BYTEA NOT NULL REFERENCES project (id),
    category BIGINT NOT NULL,
    -- Hours since 1970.
    hour     BIGINT NOT NULL,
    owner    BYTEA NOT NULL CHECK (length(owner) = 16),
    count    BIGINT NOT NULL CHECK (count >= 1),
    PRIMARY KEY (project, category, hour, owner)
);
CREATE INDEX project_flag_hour ON project_flag (hour);

CREATE TABLE advisory (
    project  BYTEA NOT NULL REFERENCES project (id),
    category BIGINT NOT NULL,
    -- Days since 1970: once a day.
    day      BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    count    BIGINT NOT NULL,
    bound    BIGINT NOT NULL CHECK (bound >= 1),
    band     BIGINT NOT NULL CHECK (band IN (1, 2)),
    PRIMARY KEY (project, category, day)
);
CREATE INDEX advisory_at ON advisory (at);
