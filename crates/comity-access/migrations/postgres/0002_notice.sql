-- Notices on their way: written with the event they tell of, one for each receiver. A row that is over stays for a week, so that it is
-- not written, and told, again.
CREATE TABLE access_notice (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    target TEXT NOT NULL,
    -- Where the target has several.
    address TEXT,
    -- Its JSON.
    notice BYTEA NOT NULL,
    since BIGINT NOT NULL,
    -- When it is taken next; while somebody has it, when it comes again.
    next_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL CHECK (attempts >= 0),
    -- 0 waits, 1 was delivered, 2 was given up.
    state BIGINT NOT NULL CHECK (state IN (0, 1, 2)),
    ended_at BIGINT NOT NULL,
    why TEXT NOT NULL
);
CREATE INDEX access_notice_due ON access_notice (state, target, next_at, id);
CREATE INDEX access_notice_ended ON access_notice (state, ended_at);
