-- The keys that the house may sell with. Without an act: it was there while fewer than two officers were.
CREATE TABLE issuer (
    key   BYTEA  NOT NULL PRIMARY KEY CHECK (length(key) = 32),
    since BIGINT NOT NULL,
    act   BYTEA  CHECK (length(act) = 32)
);
