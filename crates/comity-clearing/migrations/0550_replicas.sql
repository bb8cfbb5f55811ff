-- Several replicas of the house on one database: the line of the house's own feed, and who is there.

-- The newest head of the feed. Whichever replica publishes next goes on from here, and says nothing that was not put here before.
CREATE TABLE feed_head (
    one    INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    epoch  INTEGER NOT NULL CHECK (epoch >= 0),
    seq    INTEGER NOT NULL CHECK (seq >= 1),
    -- Content id of the signed head.
    id     BLOB    NOT NULL CHECK (length(id) = 32),
    head   BLOB    NOT NULL,
    writer BLOB    NOT NULL
) STRICT;

CREATE TRIGGER feed_head_only_rises BEFORE UPDATE ON feed_head
WHEN (NEW.epoch, NEW.seq) <= (OLD.epoch, OLD.seq)
BEGIN SELECT RAISE(ABORT, 'a number of the feed is never signed twice'); END;
CREATE TRIGGER feed_head_is_kept BEFORE DELETE ON feed_head
BEGIN SELECT RAISE(ABORT, 'how far the feed has come is never forgotten'); END;

-- What that head names, by digest.
CREATE TABLE feed_frame (
    digest BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    bytes  BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Who answers: by transport key, with the doors that it announces.
CREATE TABLE replica (
    key        BLOB    NOT NULL PRIMARY KEY CHECK (length(key) = 32),
    doors      TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
