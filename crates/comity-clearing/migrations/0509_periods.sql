-- Periods that were closed, up to a moment: what was posted before it is final. One that was reopened stays on record.
CREATE TABLE period (
    -- The act that closed it.
    act         BLOB    NOT NULL PRIMARY KEY CHECK (length(act) = 32),
    name        TEXT    NOT NULL,
    -- What was posted before this moment belongs to it.
    until_at    INTEGER NOT NULL,
    closed_at   INTEGER NOT NULL CHECK (closed_at >= until_at),
    -- How many transfers were posted until then, and the sums of all accounts of each code: JSON, [code, debits, credits].
    transfers   INTEGER NOT NULL CHECK (transfers >= 0),
    totals      TEXT    NOT NULL,
    -- The newest checkpoint of the log at that moment; zero and empty where there was none.
    log_size    INTEGER NOT NULL CHECK (log_size >= 0),
    log_root    BLOB    NOT NULL,
    reopened_at INTEGER,
    reopened_by BLOB    CHECK (length(reopened_by) = 32),
    CHECK ((reopened_at IS NULL) = (reopened_by IS NULL))
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX period_closed ON period (until_at) WHERE reopened_at IS NULL;

CREATE TRIGGER period_is_kept BEFORE DELETE ON period
BEGIN SELECT RAISE(ABORT, 'a closed period is never deleted'); END;
CREATE TRIGGER period_is_frozen BEFORE UPDATE OF act, name, until_at, closed_at, transfers, totals, log_size, log_root ON period
BEGIN SELECT RAISE(ABORT, 'the totals of a closed period never change'); END;
CREATE TRIGGER period_is_reopened_once BEFORE UPDATE ON period WHEN OLD.reopened_at IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'a period is reopened once'); END;

CREATE TRIGGER transfer_in_closed_period BEFORE INSERT ON transfer
WHEN NEW.posted_at < (SELECT COALESCE(MAX(until_at), 0) FROM period WHERE reopened_at IS NULL)
BEGIN SELECT RAISE(ABORT, 'this period is closed'); END;
