-- Periods that were closed, up to a moment: what was posted before it is final. One that was reopened stays on record.
CREATE TABLE period (
    -- The act that closed it.
    act         BYTEA   NOT NULL PRIMARY KEY CHECK (length(act) = 32),
    name        TEXT    NOT NULL,
    -- What was posted before this moment belongs to it.
    until_at    BIGINT  NOT NULL,
    closed_at   BIGINT  NOT NULL CHECK (closed_at >= until_at),
    -- How many transfers were posted until then, and the sums of all accounts of each code: JSON, [code, debits, credits].
    transfers   BIGINT  NOT NULL CHECK (transfers >= 0),
    totals      TEXT    NOT NULL,
    -- The newest checkpoint of the log at that moment; zero and empty where there was none.
    log_size    BIGINT  NOT NULL CHECK (log_size >= 0),
    log_root    BYTEA   NOT NULL,
    reopened_at BIGINT,
    reopened_by BYTEA   CHECK (length(reopened_by) = 32),
    CHECK ((reopened_at IS NULL) = (reopened_by IS NULL))
);
CREATE UNIQUE INDEX period_closed ON period (until_at) WHERE reopened_at IS NULL;

CREATE FUNCTION period_is_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a closed period is never changed or deleted' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER period_is_kept BEFORE DELETE ON period FOR EACH ROW EXECUTE FUNCTION period_is_frozen();
CREATE TRIGGER period_is_frozen BEFORE UPDATE OF act, name, until_at, closed_at, transfers, totals, log_size, log_root ON period
    FOR EACH ROW EXECUTE FUNCTION period_is_frozen();
CREATE TRIGGER period_is_reopened_once BEFORE UPDATE ON period FOR EACH ROW WHEN (OLD.reopened_at IS NOT NULL)
    EXECUTE FUNCTION period_is_frozen();

CREATE FUNCTION transfer_in_closed_period() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.posted_at < (SELECT COALESCE(MAX(until_at), 0) FROM period WHERE reopened_at IS NULL) THEN
        RAISE EXCEPTION 'this period is closed' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER transfer_in_closed_period BEFORE INSERT ON transfer FOR EACH ROW EXECUTE FUNCTION transfer_in_closed_period();
