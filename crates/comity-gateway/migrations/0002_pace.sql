-- What was charged in the windows of the owner's policy, written with the charges: a restart forgets none of it.
CREATE TABLE pace (
    subject TEXT NOT NULL,
    policy TEXT NOT NULL,
    tier INTEGER NOT NULL CHECK (tier BETWEEN 0 AND 3),
    -- 0: over all ops of the tier.
    op INTEGER NOT NULL CHECK (op >= 0),
    seconds INTEGER NOT NULL CHECK (seconds >= 1),
    begun INTEGER NOT NULL CHECK (begun >= 0),
    requests INTEGER NOT NULL CHECK (requests >= 0),
    tokens INTEGER NOT NULL CHECK (tokens >= 0),
    PRIMARY KEY (subject, policy, tier, op, seconds)
) STRICT, WITHOUT ROWID;
