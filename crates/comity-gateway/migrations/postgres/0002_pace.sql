-- What was charged in the windows of the owner's policy, written with the charges. What runs counts by its hold.
CREATE TABLE pace (
    subject TEXT NOT NULL,
    policy TEXT NOT NULL,
    tier BIGINT NOT NULL CHECK (tier BETWEEN 0 AND 3),
    -- 0: over all ops of the tier.
    op BIGINT NOT NULL CHECK (op >= 0),
    seconds BIGINT NOT NULL CHECK (seconds >= 1),
    begun BIGINT NOT NULL CHECK (begun >= 0),
    requests BIGINT NOT NULL CHECK (requests >= 0),
    tokens BIGINT NOT NULL CHECK (tokens >= 0),
    PRIMARY KEY (subject, policy, tier, op, seconds)
);

-- A subject's row is a lock and nothing else.
ALTER TABLE subject DROP COLUMN body;
