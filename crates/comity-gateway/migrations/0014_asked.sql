-- Slots whose holder was told that nothing was charged there, and when it asked, by its clock: what it signed by then is not taken any more.
CREATE TABLE asked (
    token BLOB NOT NULL REFERENCES token,
    leaf BLOB NOT NULL CHECK (length(leaf) = 32),
    lane INTEGER NOT NULL CHECK (lane BETWEEN 0 AND 65535),
    seq INTEGER NOT NULL CHECK (seq >= 1),
    item INTEGER NOT NULL CHECK (item >= 0),
    created INTEGER NOT NULL CHECK (created >= 0),
    PRIMARY KEY (token, leaf, lane, seq, item)
) STRICT, WITHOUT ROWID;
CREATE INDEX asked_by_time ON asked (created);
