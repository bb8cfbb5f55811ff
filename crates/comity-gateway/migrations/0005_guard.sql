-- Flags of a project by hour, added up; projects that the owner's filter suspended, until the owner says otherwise.
CREATE TABLE volume (
    subject TEXT NOT NULL,
    -- A category's number, or what else is counted: comity_guard::volume::Counted.
    counted INTEGER NOT NULL CHECK (counted BETWEEN 1 AND 255),
    -- Since 1970.
    hour INTEGER NOT NULL CHECK (hour >= 0),
    count INTEGER NOT NULL CHECK (count > 0),
    PRIMARY KEY (subject, counted, hour)
) STRICT, WITHOUT ROWID;
CREATE INDEX volume_by_hour ON volume (hour);

CREATE TABLE suspension (
    subject TEXT NOT NULL PRIMARY KEY,
    category INTEGER NOT NULL CHECK (category BETWEEN 1 AND 255),
    rule TEXT NOT NULL,
    at INTEGER NOT NULL CHECK (at >= 0)
) STRICT, WITHOUT ROWID;
