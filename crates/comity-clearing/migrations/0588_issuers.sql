-- The keys that the house may sell with. Without an act: it was there while fewer than two officers were.
CREATE TABLE issuer (
    key   BLOB    NOT NULL PRIMARY KEY CHECK (length(key) = 32),
    since INTEGER NOT NULL,
    act   BLOB    CHECK (length(act) = 32)
) STRICT;
