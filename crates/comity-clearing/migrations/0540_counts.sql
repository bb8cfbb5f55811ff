-- Counts: what the house asks nodes to read from their own meters, and the signed pages that came.
CREATE TABLE count_asked (
    node       BLOB    NOT NULL CHECK (length(node) = 16),
    -- Of the tokens issued from then on, up to and without the other moment.
    from_at    INTEGER NOT NULL,
    to_at      INTEGER NOT NULL CHECK (to_at > from_at),
    asked_at   INTEGER NOT NULL CHECK (asked_at >= to_at),
    -- When the meter was read, of the newest count that came whole. Asked for again: null, until another has come.
    counted_at INTEGER CHECK (counted_at >= to_at),
    PRIMARY KEY (node, from_at, to_at)
) STRICT, WITHOUT ROWID;
CREATE INDEX count_awaited ON count_asked (node, asked_at) WHERE counted_at IS NULL;

CREATE TABLE count_page (
    -- Content id of the signed page.
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    node       BLOB    NOT NULL,
    from_at    INTEGER NOT NULL,
    to_at      INTEGER NOT NULL,
    counted_at INTEGER NOT NULL,
    page       INTEGER NOT NULL CHECK (page BETWEEN 1 AND 256),
    pages      INTEGER NOT NULL CHECK (pages BETWEEN page AND 256),
    bytes      BLOB    NOT NULL,
    taken_at   INTEGER NOT NULL,
    UNIQUE (node, from_at, to_at, counted_at, page),
    FOREIGN KEY (node, from_at, to_at) REFERENCES count_asked (node, from_at, to_at)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER count_page_is_kept BEFORE DELETE ON count_page
BEGIN SELECT RAISE(ABORT, 'what a node counted is never deleted'); END;
CREATE TRIGGER count_page_stays BEFORE UPDATE ON count_page
BEGIN SELECT RAISE(ABORT, 'what a node counted never changes'); END;
