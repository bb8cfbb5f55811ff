-- Terms of use that this owner asks for, or asked for, by the SHA-256 of their bytes.
CREATE TABLE terms_of_use (
    id BLOB PRIMARY KEY CHECK (length(id) = 32),
    bytes BLOB NOT NULL,
    at INTEGER NOT NULL CHECK (at >= 0)
) STRICT;

-- Which project agreed to which of them, signed by the holder of a token that its house signed. Rows are added and never changed.
CREATE TABLE agreement (
    subject TEXT NOT NULL CHECK (subject <> ''),
    terms BLOB NOT NULL CHECK (length(terms) = 32),
    bytes BLOB NOT NULL,
    token BLOB NOT NULL,
    at INTEGER NOT NULL CHECK (at >= 0),
    PRIMARY KEY (subject, terms)
) STRICT, WITHOUT ROWID;
