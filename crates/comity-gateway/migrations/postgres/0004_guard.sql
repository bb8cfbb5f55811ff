-- Flags of a project by hour, added up; projects that the owner's filter suspended, until the owner says otherwise.
CREATE TABLE volume (
    subject TEXT NOT NULL,
    -- A category's number, or what else is counted: comity_guard::volume::Counted.
    counted BIGINT NOT NULL CHECK (counted BETWEEN 1 AND 255),
    -- Since 1970.
    hour BIGINT NOT NULL CHECK (hour >= 0),
    count BIGINT NOT NULL CHECK (count > 0),
    PRIMARY KEY (subject, counted, hour)
);
CREATE INDEX volume_by_hour ON volume (hour);

CREATE TABLE suspension (
    subject TEXT NOT NULL PRIMARY KEY,
    category BIGINT NOT NULL CHECK (category BETWEEN 1 AND 255),
    rule TEXT NOT NULL,
    at BIGINT NOT NULL CHECK (at >= 0)
);
