-- The transparency log (spec/10-log.md). What is posted waits in the ledger itself, behind log_state.transfers; every other act waits
-- in `unsealed`, written by the triggers below in the transaction of the act, so that no statement can forget it.
-- Kinds: 2 token, 3 revocation list, 4 claim, 5 final.
CREATE TABLE unsealed (
    seq     INTEGER NOT NULL PRIMARY KEY,
    -- The newest transfer when it was done: its place in the order of the log.
    place   INTEGER NOT NULL CHECK (place >= 0),
    kind    INTEGER NOT NULL CHECK (kind BETWEEN 2 AND 99),
    token   BLOB    CHECK (length(token) = 16),
    content BLOB    NOT NULL CHECK (length(content) = 32),
    -- A token's budget, a list's or a claim's number.
    number  INTEGER NOT NULL CHECK (number >= 0)
) STRICT;

CREATE TABLE log_state (
    one       INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    -- Which log of this house: another one begins where a backup was restored.
    epoch     INTEGER NOT NULL CHECK (epoch >= 1),
    size      INTEGER NOT NULL CHECK (size >= 0),
    -- The place of the last transfer that was sealed.
    transfers INTEGER NOT NULL CHECK (transfers >= 0)
) STRICT;
INSERT INTO log_state (one, epoch, size, transfers) VALUES (1, 1, 0, 0);

CREATE TABLE log_entry (
    idx   INTEGER NOT NULL PRIMARY KEY CHECK (idx >= 0),
    bytes BLOB    NOT NULL CHECK (length(bytes) BETWEEN 1 AND 4096)
) STRICT;

-- Each tile as wide as it is now; narrower ones are its beginning.
CREATE TABLE log_tile (
    level  INTEGER NOT NULL CHECK (level BETWEEN 0 AND 8),
    n      INTEGER NOT NULL CHECK (n >= 0),
    hashes BLOB    NOT NULL CHECK (length(hashes) BETWEEN 32 AND 8192),
    PRIMARY KEY (level, n)
) STRICT, WITHOUT ROWID;

-- Everything that was signed: of one size one root, for good.
CREATE TABLE log_checkpoint (
    epoch     INTEGER NOT NULL,
    size      INTEGER NOT NULL,
    root      BLOB    NOT NULL CHECK (length(root) = 32),
    note      TEXT    NOT NULL,
    signed_at INTEGER NOT NULL,
    PRIMARY KEY (epoch, size)
) STRICT, WITHOUT ROWID;

-- Who may cosign, and what they cosigned last.
CREATE TABLE log_witness (
    name     TEXT    NOT NULL PRIMARY KEY,
    vkey     TEXT    NOT NULL,
    added_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE log_cosignature (
    name  TEXT    NOT NULL PRIMARY KEY REFERENCES log_witness (name),
    epoch INTEGER NOT NULL,
    size  INTEGER NOT NULL,
    line  TEXT    NOT NULL,
    FOREIGN KEY (epoch, size) REFERENCES log_checkpoint (epoch, size)
) STRICT, WITHOUT ROWID;

-- Logs of this house that ended: the last checkpoint that anybody may have seen, and why.
CREATE TABLE log_ended (
    epoch    INTEGER NOT NULL PRIMARY KEY,
    note     TEXT    NOT NULL,
    why      TEXT    NOT NULL,
    ended_at INTEGER NOT NULL
) STRICT;

CREATE TRIGGER log_entry_is_never_changed BEFORE UPDATE ON log_entry
BEGIN SELECT RAISE(ABORT, 'the log is never changed'); END;
CREATE TRIGGER log_entry_is_kept BEFORE DELETE ON log_entry
BEGIN SELECT RAISE(ABORT, 'the log is never changed'); END;
CREATE TRIGGER log_tile_only_grows BEFORE UPDATE ON log_tile
WHEN substr(NEW.hashes, 1, length(OLD.hashes)) <> OLD.hashes
BEGIN SELECT RAISE(ABORT, 'a tile only grows'); END;
CREATE TRIGGER log_tile_is_kept BEFORE DELETE ON log_tile
BEGIN SELECT RAISE(ABORT, 'the log is never changed'); END;
CREATE TRIGGER log_checkpoint_is_never_changed BEFORE UPDATE ON log_checkpoint
BEGIN SELECT RAISE(ABORT, 'what was signed is never changed'); END;
CREATE TRIGGER log_checkpoint_is_kept BEFORE DELETE ON log_checkpoint
BEGIN SELECT RAISE(ABORT, 'what was signed is never changed'); END;
CREATE TRIGGER log_state_only_grows BEFORE UPDATE ON log_state
WHEN NEW.size < OLD.size OR NEW.transfers < OLD.transfers OR NEW.epoch < OLD.epoch
BEGIN SELECT RAISE(ABORT, 'the log only grows'); END;

CREATE TRIGGER token_is_logged AFTER INSERT ON token WHEN NEW.content IS NOT NULL
BEGIN
    INSERT INTO unsealed (place, kind, token, content, number)
    SELECT COALESCE(MAX(seq), 0), 2, NEW.id, NEW.content, NEW.budget FROM transfer;
END;
CREATE TRIGGER token_is_logged_when_signed AFTER UPDATE OF content ON token WHEN OLD.content IS NULL AND NEW.content IS NOT NULL
BEGIN
    INSERT INTO unsealed (place, kind, token, content, number)
    SELECT COALESCE(MAX(seq), 0), 2, NEW.id, NEW.content, NEW.budget FROM transfer;
END;
CREATE TRIGGER claim_is_logged AFTER INSERT ON claim
BEGIN
    INSERT INTO unsealed (place, kind, token, content, number)
    SELECT COALESCE(MAX(seq), 0), 4, NEW.token, NEW.id, NEW.number FROM transfer;
END;
CREATE TRIGGER final_is_logged AFTER INSERT ON final
BEGIN
    INSERT INTO unsealed (place, kind, token, content, number)
    SELECT COALESCE(MAX(seq), 0), 5, NEW.token, NEW.id, 0 FROM transfer;
END;

-- What a house did before it had a log: behind all transfers of that time.
INSERT INTO unsealed (place, kind, token, content, number)
SELECT (SELECT COALESCE(MAX(seq), 0) FROM transfer), 2, id, content, budget FROM token WHERE content IS NOT NULL ORDER BY issued_at, id;
INSERT INTO unsealed (place, kind, token, content, number)
SELECT (SELECT COALESCE(MAX(seq), 0) FROM transfer), 4, token, id, number FROM claim ORDER BY taken_at, id;
INSERT INTO unsealed (place, kind, token, content, number)
SELECT (SELECT COALESCE(MAX(seq), 0) FROM transfer), 5, token, id, 0 FROM final ORDER BY taken_at, id;
