-- Applications at an owner's node. What an application is stands in its events; the row beside them is for lists and clocks.

CREATE TABLE access_form (
    digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
    text TEXT NOT NULL
) STRICT;

CREATE TABLE access_application (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    subject TEXT NOT NULL,
    state TEXT NOT NULL,
    -- Whether anything but a copy can follow.
    is_open INTEGER NOT NULL CHECK (is_open IN (0, 1)),
    -- Whether it was revoked, and nobody has reinstated it since; also when it is over.
    was_revoked INTEGER NOT NULL CHECK (was_revoked IN (0, 1)),
    -- Empty where no move is due.
    party TEXT NOT NULL,
    -- Unix seconds; the largest number where no clock runs.
    due_at INTEGER NOT NULL,
    opened_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    -- How many, and the link of the last one.
    events INTEGER NOT NULL CHECK (events >= 1),
    head BLOB NOT NULL CHECK (length(head) = 32),
    form BLOB NOT NULL REFERENCES access_form (digest),
    -- Separated by blanks.
    models TEXT NOT NULL
) STRICT;
CREATE INDEX access_application_due ON access_application (due_at, id);
CREATE INDEX access_application_state ON access_application (state, due_at, id);
CREATE INDEX access_application_party ON access_application (party, due_at, id);
CREATE INDEX access_application_subject ON access_application (subject, due_at, id);

-- Never changed and never deleted.
CREATE TABLE access_event (
    application BLOB NOT NULL REFERENCES access_application (id),
    n INTEGER NOT NULL CHECK (n >= 1),
    bytes BLOB NOT NULL,
    PRIMARY KEY (application, n)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER access_event_stays BEFORE UPDATE ON access_event
BEGIN SELECT RAISE(ABORT, 'an event is never changed'); END;
CREATE TRIGGER access_event_is_kept BEFORE DELETE ON access_event
BEGIN SELECT RAISE(ABORT, 'an event is never deleted'); END;

CREATE TABLE access_attachment (
    application BLOB NOT NULL REFERENCES access_application (id),
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    bytes BLOB NOT NULL,
    PRIMARY KEY (application, digest)
) STRICT;

-- What a decision does to the node's grants: written with the event, done after it, and again after a crash until it is done.
CREATE TABLE access_effect (
    application BLOB NOT NULL REFERENCES access_application (id),
    n INTEGER NOT NULL CHECK (n >= 1),
    kind TEXT NOT NULL CHECK (kind IN ('grant', 'withdraw')),
    grant_id BLOB NOT NULL CHECK (length(grant_id) = 16),
    is_done INTEGER NOT NULL CHECK (is_done IN (0, 1)),
    PRIMARY KEY (application, n, kind)
) STRICT;
CREATE INDEX access_effect_open ON access_effect (is_done, application, n);
