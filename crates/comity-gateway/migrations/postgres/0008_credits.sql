-- Credit notes (spec/07-settlement.md §11): what the owner gives back, and what the house that issued the token said of it last.
CREATE TABLE credit_note (
    id        BYTEA   NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    house     BYTEA   NOT NULL CHECK (length(house) = 16),
    token     BYTEA   NOT NULL CHECK (length(token) = 16),
    amount    BIGINT  NOT NULL CHECK (amount > 0),
    reason    BIGINT  NOT NULL CHECK (reason BETWEEN 1 AND 3),
    -- Of the event of the case that orders it.
    case_link BYTEA   CHECK (length(case_link) = 32),
    author    TEXT    NOT NULL,
    at        BIGINT  NOT NULL,
    -- 0: it is brought until the house says more; 1: booked; 2: declined for good.
    state     BIGINT  NOT NULL CHECK (state BETWEEN 0 AND 2),
    content   BYTEA   CHECK (length(content) = 32),
    booked_at BIGINT ,
    code      TEXT,
    message   TEXT,
    CHECK ((state = 1) = (content IS NOT NULL) AND (state = 1) = (booked_at IS NOT NULL)),
    CHECK ((state = 2) = (code IS NOT NULL) AND (state = 2) = (message IS NOT NULL))
);
CREATE INDEX credit_note_waiting ON credit_note (at, id) WHERE state = 0;
CREATE INDEX credit_note_by_token ON credit_note (token);
