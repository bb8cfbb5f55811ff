-- What a recharge owner published (2 CFR 200.468): rates, what they rest on, and what a year did cost.
CREATE TABLE owner_schedule (
    -- The act that recorded it.
    act         BLOB    NOT NULL PRIMARY KEY CHECK (length(act) = 32),
    owner       BLOB    NOT NULL CHECK (length(owner) = 16),
    place       INTEGER NOT NULL CHECK (place >= 1),
    -- What terms call it; its versions follow each other by their first moment.
    name        TEXT    NOT NULL,
    from_at     INTEGER NOT NULL,
    approved_by TEXT    NOT NULL,
    fiscal_year TEXT    NOT NULL,
    costs       INTEGER NOT NULL CHECK (costs >= 0),
    -- JSON: model, op, meter, ucr_per_million, expected_units.
    rates       TEXT    NOT NULL,
    recorded_at INTEGER NOT NULL,
    UNIQUE (owner, place)
) STRICT, WITHOUT ROWID;

CREATE TABLE owner_costs (
    act         BLOB    NOT NULL PRIMARY KEY CHECK (length(act) = 32),
    owner       BLOB    NOT NULL CHECK (length(owner) = 16),
    -- Of two for one year the later ones hold.
    place       INTEGER NOT NULL CHECK (place >= 1),
    fiscal_year TEXT    NOT NULL,
    from_at     INTEGER NOT NULL,
    until_at    INTEGER NOT NULL CHECK (until_at > from_at),
    costs       INTEGER NOT NULL CHECK (costs >= 0),
    evidence    TEXT    NOT NULL,
    recorded_at INTEGER NOT NULL,
    UNIQUE (owner, place)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER owner_schedule_is_kept BEFORE DELETE ON owner_schedule
BEGIN SELECT RAISE(ABORT, 'schedules are never deleted'); END;
CREATE TRIGGER owner_schedule_is_never_changed BEFORE UPDATE ON owner_schedule
BEGIN SELECT RAISE(ABORT, 'schedules are never changed'); END;
CREATE TRIGGER owner_costs_are_kept BEFORE DELETE ON owner_costs
BEGIN SELECT RAISE(ABORT, 'costs are never deleted'); END;
CREATE TRIGGER owner_costs_are_never_changed BEFORE UPDATE ON owner_costs
BEGIN SELECT RAISE(ABORT, 'costs are never changed'); END;
