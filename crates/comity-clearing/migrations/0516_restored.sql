-- Each time that these books came back from a backup: what was done between backup_at and restored_at may be missing in them.
CREATE TABLE restored (
    number      INTEGER NOT NULL PRIMARY KEY CHECK (number >= 1),
    backup_at   INTEGER NOT NULL CHECK (backup_at >= 0),
    restored_at INTEGER NOT NULL CHECK (restored_at >= backup_at)
) STRICT;

CREATE TRIGGER restored_is_never_changed BEFORE UPDATE ON restored
BEGIN SELECT RAISE(ABORT, 'that books came back from a backup is never changed'); END;
CREATE TRIGGER restored_is_kept BEFORE DELETE ON restored
BEGIN SELECT RAISE(ABORT, 'that books came back from a backup is never forgotten'); END;
