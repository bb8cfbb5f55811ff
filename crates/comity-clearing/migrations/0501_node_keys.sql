-- Every receipt and transport key that was ever certified to a node by its owner, with the dates it was certified for.
-- The owner of a node is the one of its first row. Use: 1 receipts, finals, claims; 2 calls to the house.
CREATE TABLE node_key_dated (
    node     BLOB    NOT NULL CHECK (length(node) = 16),
    use      INTEGER NOT NULL CHECK (use IN (1, 2)),
    key      BLOB    NOT NULL CHECK (length(key) = 32),
    owner    BLOB    NOT NULL CHECK (length(owner) = 16),
    from_at  INTEGER NOT NULL,
    until_at INTEGER NOT NULL,
    seen_at  INTEGER NOT NULL,
    PRIMARY KEY (node, use, key)
) STRICT, WITHOUT ROWID;

-- What was remembered before had no dates: it stands for good. Of two owners the first one is it.
INSERT INTO node_key_dated (node, use, key, owner, from_at, until_at, seen_at)
SELECT node, 1, key, owner, 0, 9007199254740991, seen_at FROM node_key k
WHERE owner = (SELECT owner FROM node_key f WHERE f.node = k.node ORDER BY seen_at, key LIMIT 1);

DROP TABLE node_key;
ALTER TABLE node_key_dated RENAME TO node_key;
