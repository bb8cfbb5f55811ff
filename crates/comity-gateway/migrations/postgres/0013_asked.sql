-- Slots whose holder was told that nothing was charged there, and when it asked, by its clock: what it signed by then is not taken any more.
CREATE TABLE asked (
    token BYTEA NOT NULL REFERENCES token,
    leaf BYTEA NOT NULL CHECK (length(leaf) = 32),
    lane BIGINT NOT NULL CHECK (lane BETWEEN 0 AND 65535),
    seq BIGINT NOT NULL CHECK (seq >= 1),
    item BIGINT NOT NULL CHECK (item >= 0),
    created BIGINT NOT NULL CHECK (created >= 0),
    PRIMARY KEY (token, leaf, lane, seq, item)
);
CREATE INDEX asked_by_time ON asked (created);
