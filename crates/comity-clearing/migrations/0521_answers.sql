-- Answers that are kept under an Idempotency-Key, in the order in which they were given. Dropped when old or too many.
CREATE TABLE answer (
    place       INTEGER NOT NULL PRIMARY KEY,
    signer      BLOB    NOT NULL CHECK (length(signer) = 32),
    key         BLOB    NOT NULL CHECK (length(key) = 32),
    call        BLOB    NOT NULL CHECK (length(call) = 32),
    status      INTEGER NOT NULL CHECK (status BETWEEN 200 AND 599),
    body        BLOB    NOT NULL,
    answered_at INTEGER NOT NULL,
    UNIQUE (signer, key)
) STRICT;
CREATE INDEX answer_by_signer ON answer (signer, place);
CREATE INDEX answer_by_age ON answer (answered_at, place);

-- Lists that are read in pages.
CREATE INDEX token_by_node ON token (node, id);
