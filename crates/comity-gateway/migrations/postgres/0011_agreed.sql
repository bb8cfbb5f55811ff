-- Terms of use that this owner asks for, or asked for, by the SHA-256 of their bytes.
CREATE TABLE terms_of_use (
    id BYTEA PRIMARY KEY CHECK (length(id) = 32),
    bytes BYTEA NOT NULL,
    at BIGINT NOT NULL CHECK (at >= 0)
);

-- Which project agreed to which of them, signed by the holder of a token that its house signed. Rows are added and never changed.
CREATE TABLE agreement (
    subject TEXT NOT NULL CHECK (subject <> ''),
    terms BYTEA NOT NULL CHECK (length(terms) = 32),
    bytes BYTEA NOT NULL,
    token BYTEA NOT NULL,
    at BIGINT NOT NULL CHECK (at >= 0),
    PRIMARY KEY (subject, terms)
);
