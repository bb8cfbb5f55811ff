-- A central site of AMIE that this house is a resource of (docs/reference/amie.md, decision 0052): what it asked for, what it was
-- answered, and whom it knows here. Nothing here moves credits: what does is an act, whose id stands with the packet.

-- A grant has a project of its own, made when the first officer stands for it. Standing: 0 asked for, 1 active, 2 inactive.
CREATE TABLE central_grant (
    central      TEXT    NOT NULL,
    grant_number TEXT    NOT NULL,
    project      BLOB    NOT NULL UNIQUE CHECK (length(project) = 16),
    title        TEXT    NOT NULL,
    -- JSON.
    purposes     TEXT    NOT NULL,
    -- Its newest award; and one that waits for the officers.
    award        BLOB    CHECK (length(award) = 16),
    asked        BLOB    CHECK (length(asked) = 16),
    standing     INTEGER NOT NULL CHECK (standing BETWEEN 0 AND 2),
    -- The operator had frozen the project before the central site did.
    held         INTEGER NOT NULL DEFAULT 0 CHECK (held IN (0, 1)),
    PRIMARY KEY (central, grant_number)
) STRICT, WITHOUT ROWID;

-- A person of the central site, under the number that this house gave. Without a member key nobody can act as that person.
CREATE TABLE central_person (
    central   TEXT    NOT NULL,
    number    INTEGER NOT NULL CHECK (number >= 1),
    global_id TEXT    NOT NULL,
    -- JSON: names as the central site says them.
    person    TEXT    NOT NULL CHECK (length(person) <= 4096),
    member    BLOB    CHECK (length(member) = 32),
    -- The number that it became.
    merged    INTEGER CHECK (merged >= 1),
    PRIMARY KEY (central, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX central_person_by_member ON central_person (central, member) WHERE member IS NOT NULL;
CREATE INDEX central_person_by_global_id ON central_person (central, global_id);

CREATE TABLE central_account (
    central  TEXT    NOT NULL,
    project  BLOB    NOT NULL CHECK (length(project) = 16),
    person   INTEGER NOT NULL,
    login    TEXT    NOT NULL,
    role     INTEGER NOT NULL CHECK (role BETWEEN 1 AND 4),
    active   INTEGER NOT NULL CHECK (active IN (0, 1)),
    PRIMARY KEY (central, project, person),
    FOREIGN KEY (central, person) REFERENCES central_person (central, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX central_account_by_person ON central_account (central, person);

-- What came, by the central site's own number. State: 0 the officers' move, 1 an answer that is to be sent, 2 answered, 3 an answer that
-- the central site refused: the operator's move.
CREATE TABLE central_packet (
    central     TEXT    NOT NULL,
    id          INTEGER NOT NULL CHECK (id >= 0),
    trans       INTEGER NOT NULL CHECK (trans >= 0),
    kind        TEXT    NOT NULL CHECK (length(kind) <= 64),
    body        TEXT    NOT NULL CHECK (length(body) <= 65536),
    -- Of a grant: its RecordID, and the act that it asks for, in JSON, by its id.
    record      TEXT,
    act         BLOB    CHECK (length(act) = 32),
    act_body    TEXT    NOT NULL DEFAULT '',
    state       INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3),
    answer_kind TEXT    NOT NULL DEFAULT '',
    answer      TEXT    NOT NULL DEFAULT '' CHECK (length(answer) <= 65536),
    -- Whether it was done here; and what is to be said of it.
    done        INTEGER NOT NULL DEFAULT 0 CHECK (done IN (0, 1)),
    said        TEXT    NOT NULL DEFAULT '',
    -- What kept the answer from being sent last.
    error       TEXT    NOT NULL DEFAULT '',
    taken_at    INTEGER NOT NULL,
    changed_at  INTEGER NOT NULL,
    PRIMARY KEY (central, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX central_packet_by_act ON central_packet (act) WHERE act IS NOT NULL;
CREATE INDEX central_packet_by_record ON central_packet (central, record) WHERE record IS NOT NULL;
CREATE INDEX central_packet_open ON central_packet (central, id) WHERE state < 2;
