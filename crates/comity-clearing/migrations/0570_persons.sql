-- Persons, their keys, and what is known of them (docs/operating/persons.md, decision 0053). Evidence is added and never changed.
CREATE TABLE person (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How an issuer calls a person: never by an e-mail address.
CREATE TABLE person_subject (
    issuer  TEXT    NOT NULL CHECK (length(issuer) <= 512),
    subject TEXT    NOT NULL CHECK (length(subject) BETWEEN 1 AND 512),
    person  BLOB    NOT NULL REFERENCES person (id),
    since   INTEGER NOT NULL,
    PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX person_subject_by_person ON person_subject (person);

-- A key is one person's for good. Bound by 1 a login, 2 the operator, 3 another key of the same person.
CREATE TABLE person_key (
    key        BLOB    NOT NULL PRIMARY KEY CHECK (length(key) = 32),
    person     BLOB    NOT NULL REFERENCES person (id),
    bound_at   INTEGER NOT NULL,
    bound_by   INTEGER NOT NULL CHECK (bound_by BETWEEN 1 AND 3),
    revoked_at INTEGER CHECK (revoked_at >= bound_at)
) STRICT, WITHOUT ROWID;
CREATE INDEX person_key_by_person ON person_key (person);

-- How: 1 a login, 2 a visa that came with one, 3 the house's own check, 4 a signature of a key that is registered here.
CREATE TABLE person_evidence (
    seq         INTEGER NOT NULL PRIMARY KEY,
    person      BLOB    NOT NULL REFERENCES person (id),
    issuer      TEXT    NOT NULL CHECK (length(issuer) <= 512),
    claim       TEXT    NOT NULL CHECK (length(claim) <= 512),
    value       TEXT    NOT NULL CHECK (length(value) <= 512),
    asserted_at INTEGER NOT NULL,
    expires_at  INTEGER,
    how         INTEGER NOT NULL CHECK (how BETWEEN 1 AND 4),
    occasion    INTEGER NOT NULL CHECK (occasion >= 1),
    -- What was seen, or the signature.
    note        TEXT    NOT NULL DEFAULT '' CHECK (length(note) <= 512),
    recorded_by TEXT    NOT NULL CHECK (length(recorded_by) <= 512),
    recorded_at INTEGER NOT NULL
) STRICT;
CREATE INDEX person_evidence_newest ON person_evidence (person, how, issuer, occasion);
