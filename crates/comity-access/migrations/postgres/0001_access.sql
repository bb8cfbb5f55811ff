-- Applications at an owner's node. What an application is stands in its events; the row beside them is for lists and clocks.

CREATE TABLE access_form (
    digest BYTEA PRIMARY KEY CHECK (length(digest) = 32),
    text TEXT NOT NULL
);

CREATE TABLE access_application (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    subject TEXT NOT NULL,
    state TEXT NOT NULL,
    -- Whether anything but a copy can follow.
    is_open BIGINT NOT NULL CHECK (is_open IN (0, 1)),
    -- Whether it was revoked, and nobody has reinstated it since; also when it is over.
    was_revoked BIGINT NOT NULL CHECK (was_revoked IN (0, 1)),
    -- Empty where no move is due.
    party TEXT NOT NULL,
    -- Unix seconds; the largest number where no clock runs.
    due_at BIGINT NOT NULL,
    opened_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    -- How many, and the link of the last one.
    events BIGINT NOT NULL CHECK (events >= 1),
    head BYTEA NOT NULL CHECK (length(head) = 32),
    form BYTEA NOT NULL REFERENCES access_form (digest),
    -- Separated by blanks.
    models TEXT NOT NULL
);
CREATE INDEX access_application_due ON access_application (due_at, id);
CREATE INDEX access_application_state ON access_application (state, due_at, id);
CREATE INDEX access_application_party ON access_application (party, due_at, id);
CREATE INDEX access_application_subject ON access_application (subject, due_at, id);

-- Never changed and never deleted.
CREATE TABLE access_event (
    application BYTEA NOT NULL REFERENCES access_application (id),
    n BIGINT NOT NULL CHECK (n >= 1),
    bytes BYTEA NOT NULL,
    PRIMARY KEY (application, n)
);

CREATE TABLE access_attachment (
    application BYTEA NOT NULL REFERENCES access_application (id),
    digest BYTEA NOT NULL CHECK (length(digest) = 32),
    bytes BYTEA NOT NULL,
    PRIMARY KEY (application, digest)
);

-- What a decision does to the node's grants: written with the event, done after it, and again after a crash until it is done.
CREATE TABLE access_effect (
    application BYTEA NOT NULL REFERENCES access_application (id),
    n BIGINT NOT NULL CHECK (n >= 1),
    kind TEXT NOT NULL CHECK (kind IN ('grant', 'withdraw')),
    grant_id BYTEA NOT NULL CHECK (length(grant_id) = 16),
    is_done BIGINT NOT NULL CHECK (is_done IN (0, 1)),
    PRIMARY KEY (application, n, kind)
);
CREATE INDEX access_effect_open ON access_effect (is_done, application, n);

CREATE FUNCTION access_event_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'an event is never changed and never deleted'; END $$;
CREATE TRIGGER access_event_stays BEFORE UPDATE OR DELETE ON access_event FOR EACH ROW EXECUTE FUNCTION access_event_is_kept();
