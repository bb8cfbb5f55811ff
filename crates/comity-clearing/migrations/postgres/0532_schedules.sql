-- What a recharge owner published (2 CFR 200.468): rates, what they rest on, and what a year did cost.
CREATE TABLE owner_schedule (
    -- The act that recorded it.
    act         BYTEA   NOT NULL PRIMARY KEY CHECK (length(act) = 32),
    owner       BYTEA   NOT NULL CHECK (length(owner) = 16),
    place       BIGINT  NOT NULL CHECK (place >= 1),
    -- What terms call it; its versions follow each other by their first moment.
    name        TEXT    NOT NULL,
    from_at     BIGINT  NOT NULL,
    approved_by TEXT    NOT NULL,
    fiscal_year TEXT    NOT NULL,
    costs       BIGINT  NOT NULL CHECK (costs >= 0),
    -- JSON: model, op, meter, ucr_per_million, expected_units.
    rates       TEXT    NOT NULL,
    recorded_at BIGINT  NOT NULL,
    UNIQUE (owner, place)
);

CREATE TABLE owner_costs (
    act         BYTEA   NOT NULL PRIMARY KEY CHECK (length(act) = 32),
    owner       BYTEA   NOT NULL CHECK (length(owner) = 16),
    -- Of two for one year the later ones hold.
    place       BIGINT  NOT NULL CHECK (place >= 1),
    fiscal_year TEXT    NOT NULL,
    from_at     BIGINT  NOT NULL,
    until_at    BIGINT  NOT NULL CHECK (until_at > from_at),
    costs       BIGINT  NOT NULL CHECK (costs >= 0),
    evidence    TEXT    NOT NULL,
    recorded_at BIGINT  NOT NULL,
    UNIQUE (owner, place)
);

CREATE TRIGGER owner_schedule_is_kept BEFORE UPDATE OR DELETE ON owner_schedule FOR EACH ROW EXECUTE FUNCTION rows_are_kept();
CREATE TRIGGER owner_costs_are_kept BEFORE UPDATE OR DELETE ON owner_costs FOR EACH ROW EXECUTE FUNCTION rows_are_kept();
