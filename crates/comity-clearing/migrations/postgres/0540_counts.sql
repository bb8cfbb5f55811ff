-- Counts: what the house asks nodes to read from their own meters, and the signed pages that came.
CREATE TABLE count_asked (
    node       BYTEA   NOT NULL CHECK (length(node) = 16),
    -- Of the tokens issued from then on, up to and without the other moment.
    from_at    BIGINT  NOT NULL,
    to_at      BIGINT  NOT NULL CHECK (to_at > from_at),
    asked_at   BIGINT  NOT NULL CHECK (asked_at >= to_at),
    -- When the meter was read, of the newest count that came whole. Asked for again: null, until another has come.
    counted_at BIGINT  CHECK (counted_at >= to_at),
    PRIMARY KEY (node, from_at, to_at)
);
CREATE INDEX count_awaited ON count_asked (node, asked_at) WHERE counted_at IS NULL;

CREATE TABLE count_page (
    -- Content id of the signed page.
    id         BYTEA   NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    node       BYTEA   NOT NULL,
    from_at    BIGINT  NOT NULL,
    to_at      BIGINT  NOT NULL,
    counted_at BIGINT  NOT NULL,
    page       BIGINT  NOT NULL CHECK (page BETWEEN 1 AND 256),
    pages      BIGINT  NOT NULL CHECK (pages BETWEEN page AND 256),
    bytes      BYTEA   NOT NULL,
    taken_at   BIGINT  NOT NULL,
    UNIQUE (node, from_at, to_at, counted_at, page),
    FOREIGN KEY (node, from_at, to_at) REFERENCES count_asked (node, from_at, to_at)
);

CREATE FUNCTION count_page_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what a node counted is never changed or deleted' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER count_page_stays BEFORE UPDATE OR DELETE ON count_page FOR EACH ROW EXECUTE FUNCTION count_page_stays();
