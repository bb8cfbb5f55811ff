-- Credit notes (spec/07-settlement.md §11): what the owner gives back, and what the house that issued the token said of it last.
CREATE TABLE credit_note (
    id        BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    house     BLOB    NOT NULL CHECK (length(house) = 16),
    token     BLOB    NOT NULL CHECK (length(token) = 16),
    amount    INTEGER NOT NULL CHECK (amount > 0),
    reason    INTEGER NOT NULL CHECK (reason BETWEEN 1 AND 3),
    -- Of the event of the case that orders it.
    case_link BLOB    CHECK (length(case_link) = 32),
    author    TEXT    NOT NULL,
    at        INTEGER NOT NULL,
    -- 0: it is brought until the house says more; 1: booked; 2: declined for good.
    state     INTEGER NOT NULL CHECK (state BETWEEN 0 AND 2),
    content   BLOB    CHECK (length(content) = 32),
    booked_at INTEGER,
    code      TEXT,
    message   TEXT,
    CHECK ((state = 1) = (content IS NOT NULL) AND (state = 1) = (booked_at IS NOT NULL)),
    CHECK ((state = 2) = (code IS NOT NULL) AND (state = 2) = (message IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX credit_note_waiting ON credit_note (at, id) WHERE state = 0;
CREATE INDEX credit_note_by_token ON credit_note (token);
