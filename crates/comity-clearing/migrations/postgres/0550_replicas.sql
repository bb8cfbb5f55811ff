-- Several replicas of the house on one database: the line of the house's own feed, and who is there.

-- The newest head of the feed. Whichever replica publishes next goes on from here, and says nothing that was not put here before.
CREATE TABLE feed_head (
    one    BIGINT  NOT NULL PRIMARY KEY CHECK (one = 1),
    epoch  BIGINT  NOT NULL CHECK (epoch >= 0),
    seq    BIGINT  NOT NULL CHECK (seq >= 1),
    -- Content id of the signed head.
    id     BYTEA   NOT NULL CHECK (length(id) = 32),
    head   BYTEA   NOT NULL,
    writer BYTEA   NOT NULL
);

CREATE FUNCTION feed_head_only_rises() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR (NEW.epoch, NEW.seq) <= (OLD.epoch, OLD.seq) THEN
        RAISE EXCEPTION 'a number of the feed is never signed twice, nor forgotten' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER feed_head_only_rises BEFORE UPDATE OR DELETE ON feed_head FOR EACH ROW EXECUTE FUNCTION feed_head_only_rises();

-- What that head names, by digest.
CREATE TABLE feed_frame (
    digest BYTEA NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    bytes  BYTEA NOT NULL
);

-- Who answers: by transport key, with the doors that it announces.
CREATE TABLE replica (
    key        BYTEA  NOT NULL PRIMARY KEY CHECK (length(key) = 32),
    doors      TEXT   NOT NULL,
    started_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL
);
