-- Each time that these books came back from a backup: what was done between backup_at and restored_at may be missing in them.
CREATE TABLE restored (
    number      BIGINT NOT NULL PRIMARY KEY CHECK (number >= 1),
    backup_at   BIGINT NOT NULL CHECK (backup_at >= 0),
    restored_at BIGINT NOT NULL CHECK (restored_at >= backup_at)
);

CREATE TRIGGER restored_is_kept BEFORE UPDATE OR DELETE ON restored FOR EACH ROW EXECUTE FUNCTION rows_are_kept();
CREATE TRIGGER restored_is_emptied BEFORE TRUNCATE ON restored FOR EACH STATEMENT EXECUTE FUNCTION rows_are_kept();
