-- What is written to see whether there is room, after a batch that there was none for. Empty at all other times.
CREATE TABLE trial (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    bytes BLOB NOT NULL
) STRICT;
