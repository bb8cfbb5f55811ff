-- What the house found of owners by blind probes, from the day it was shown to them (spec/13-checks.md).

CREATE TABLE finding (
    -- Digest of the evidence.
    id        BYTEA PRIMARY KEY CHECK (length(id) = 32),
    node      BYTEA NOT NULL CHECK (length(node) = 16),
    -- When its owner was shown it.
    shown_at  BIGINT NOT NULL,
    -- Whether everybody may read it: it was published, whatever became of it since.
    published BIGINT NOT NULL CHECK (published IN (0, 1)),
    -- The finding: evidence, where it stands, the owner's answer.
    body      TEXT NOT NULL
);
CREATE INDEX finding_node ON finding (node, shown_at, id);
CREATE INDEX finding_shown ON finding (shown_at, id);
