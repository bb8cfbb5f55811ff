-- Which times houses came back from a backup that this node has acted on: it claimed again what they may have forgotten.
CREATE TABLE house (
    org         BYTEA  NOT NULL PRIMARY KEY CHECK (length(org) = 16),
    restored_at BIGINT NOT NULL CHECK (restored_at >= 0)
);
