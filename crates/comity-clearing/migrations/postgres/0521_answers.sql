-- Answers that are kept under an Idempotency-Key, in the order in which they were given. Dropped when old or too many.
CREATE TABLE answer (
    place       BIGINT NOT NULL PRIMARY KEY,
    signer      BYTEA  NOT NULL CHECK (length(signer) = 32),
    key         BYTEA  NOT NULL CHECK (length(key) = 32),
    call        BYTEA  NOT NULL CHECK (length(call) = 32),
    status      BIGINT NOT NULL CHECK (status BETWEEN 200 AND 599),
    body        BYTEA  NOT NULL,
    answered_at BIGINT NOT NULL,
    UNIQUE (signer, key)
);
CREATE INDEX answer_by_signer ON answer (signer, place);
CREATE INDEX answer_by_age ON answer (answered_at, place);

-- Lists that are read in pages.
CREATE INDEX token_by_node ON token (node, id);
