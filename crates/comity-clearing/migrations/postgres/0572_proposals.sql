-- Projects that somebody proposed, and the code of conduct that persons sign (docs/operating/persons.md, decision 0059). A project without a
-- proposal was made by the operator, or by a grant, and is taken in.
CREATE TABLE proposal (
    project      BYTEA   NOT NULL PRIMARY KEY REFERENCES project (id),
    proposer     BYTEA   NOT NULL REFERENCES person (id),
    purpose      TEXT    NOT NULL CHECK (length(purpose) BETWEEN 1 AND 8192),
    -- JSON.
    data_classes TEXT    NOT NULL CHECK (length(data_classes) <= 4096),
    -- JSON: keys that become members when the project is taken in.
    members      TEXT    NOT NULL CHECK (length(members) <= 16384),
    -- Of what was asked for: the same again is nothing new.
    request      BYTEA   NOT NULL CHECK (length(request) = 32),
    proposed_at  BIGINT  NOT NULL,
    -- 0 waits, 1 accepted, 2 declined.
    state        BIGINT  NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 2),
    decided_at   BIGINT,
    reason       TEXT    NOT NULL DEFAULT '' CHECK (length(reason) <= 512),
    CHECK ((state = 0) = (decided_at IS NULL))
);
CREATE INDEX proposal_waits ON proposal (proposer) WHERE state = 0;

-- The newest is what has to be signed.
CREATE TABLE conduct (
    version TEXT    NOT NULL PRIMARY KEY CHECK (length(version) BETWEEN 1 AND 32),
    place   BIGINT  NOT NULL UNIQUE CHECK (place >= 1),
    digest  BYTEA   NOT NULL CHECK (length(digest) = 32),
    body    TEXT    NOT NULL CHECK (length(body) BETWEEN 1 AND 65536),
    since   BIGINT  NOT NULL
);
