-- ACCESS AMIE, the central side (docs/reference/amie.md): sites that may call, what was announced to them, what they answered, and
-- the usage that they report. Nothing here pays anybody.
CREATE TABLE amie_site (
    name       TEXT    NOT NULL PRIMARY KEY,
    owner      BLOB    NOT NULL CHECK (length(owner) = 16),
    resource   TEXT    NOT NULL,
    -- SHA-256 of the key that it shows.
    key        BLOB    NOT NULL CHECK (length(key) = 32),
    -- The number of its newest failed usage record: none is given twice.
    failures   INTEGER NOT NULL DEFAULT 0 CHECK (failures >= 0),
    added_at   INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;

-- What the operator lets sites know of a member: JSON. Without it they learn pseudonyms.
CREATE TABLE amie_person (
    project BLOB NOT NULL REFERENCES project (id),
    member  BLOB NOT NULL CHECK (length(member) = 32),
    person  TEXT NOT NULL CHECK (length(person) <= 4096),
    PRIMARY KEY (project, member)
) STRICT, WITHOUT ROWID;

-- Flow: 1 project create, 2 account create, 3 project inactivate, 4 project reactivate, 5 account inactivate, 6 account
-- reactivate. State: 0 in progress, 1 completed, 2 failed.
CREATE TABLE amie_transaction (
    id         INTEGER NOT NULL PRIMARY KEY,
    site       TEXT    NOT NULL REFERENCES amie_site (name),
    -- Its number among this site's.
    number     INTEGER NOT NULL CHECK (number >= 1),
    flow       INTEGER NOT NULL CHECK (flow BETWEEN 1 AND 6),
    project    BLOB    NOT NULL REFERENCES project (id),
    member     BLOB    CHECK (length(member) = 32),
    award      BLOB    REFERENCES award (id),
    -- The RecordID of a project create: announced again it is the same transaction.
    record     TEXT,
    state      INTEGER NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 2),
    message    TEXT    NOT NULL DEFAULT '',
    began_at   INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    UNIQUE (site, number),
    UNIQUE (site, record),
    CHECK ((flow = 1) = (record IS NOT NULL))
) STRICT;
CREATE INDEX amie_transaction_open ON amie_transaction (site, project) WHERE state = 0;
CREATE INDEX amie_transaction_by_award ON amie_transaction (award) WHERE award IS NOT NULL;

-- State of what the house sent: 0 the site's move, 1 answered, 2 over by failure. What a site sent is 1.
CREATE TABLE amie_packet (
    id           INTEGER NOT NULL PRIMARY KEY,
    trans        INTEGER NOT NULL REFERENCES amie_transaction (id),
    number       INTEGER NOT NULL CHECK (number BETWEEN 1 AND 8),
    from_site    INTEGER NOT NULL CHECK (from_site IN (0, 1)),
    kind         TEXT    NOT NULL,
    body         TEXT    NOT NULL CHECK (length(body) <= 65536),
    -- Of what came: a digest of how it came, so that a repeat is told from another.
    content      BLOB    CHECK (length(content) = 32),
    reply_to     INTEGER REFERENCES amie_packet (id),
    state        INTEGER NOT NULL CHECK (state BETWEEN 0 AND 2),
    client_state TEXT    NOT NULL DEFAULT '' CHECK (length(client_state) <= 64),
    client_json  TEXT    NOT NULL DEFAULT '' CHECK (length(client_json) <= 16384),
    sent_at      INTEGER NOT NULL,
    changed_at   INTEGER NOT NULL,
    UNIQUE (trans, number)
) STRICT;
CREATE INDEX amie_packet_open ON amie_packet (id) WHERE state = 0;
CREATE INDEX amie_packet_by_answer ON amie_packet (reply_to) WHERE reply_to IS NOT NULL;

-- Standing: 0 asked for, 1 active, 2 inactive. Refused: the flow that failed last; it is not asked for again by itself.
CREATE TABLE amie_project (
    site         TEXT    NOT NULL REFERENCES amie_site (name),
    project      BLOB    NOT NULL REFERENCES project (id),
    -- What the site calls it; null until it says so.
    site_project TEXT,
    grant_number TEXT    NOT NULL,
    standing     INTEGER NOT NULL CHECK (standing BETWEEN 0 AND 2),
    refused      INTEGER NOT NULL DEFAULT 0 CHECK (refused BETWEEN 0 AND 6),
    PRIMARY KEY (site, project),
    UNIQUE (site, site_project)
) STRICT, WITHOUT ROWID;

CREATE TABLE amie_account (
    site     TEXT    NOT NULL REFERENCES amie_site (name),
    project  BLOB    NOT NULL REFERENCES project (id),
    member   BLOB    NOT NULL CHECK (length(member) = 32),
    person   TEXT    NOT NULL DEFAULT '',
    login    TEXT    NOT NULL DEFAULT '',
    -- The PI's account comes with the project's.
    pi       INTEGER NOT NULL DEFAULT 0 CHECK (pi IN (0, 1)),
    standing INTEGER NOT NULL CHECK (standing BETWEEN 0 AND 2),
    refused  INTEGER NOT NULL DEFAULT 0 CHECK (refused BETWEEN 0 AND 6),
    PRIMARY KEY (site, project, member)
) STRICT, WITHOUT ROWID;
CREATE INDEX amie_account_by_login ON amie_account (site, project, login);

-- A site's own meter, as it reported it. Kind: 1 compute, 2 storage, 3 adjustment. Debits are positive, credits negative.
CREATE TABLE amie_usage (
    site        TEXT    NOT NULL REFERENCES amie_site (name),
    record      TEXT    NOT NULL,
    kind        INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 3),
    -- Years since 1970 times 12, and months.
    month       INTEGER NOT NULL CHECK (month >= 0),
    project     BLOB    NOT NULL REFERENCES project (id),
    login       TEXT    NOT NULL,
    charge      INTEGER NOT NULL,
    used_at     INTEGER NOT NULL,
    body        TEXT    NOT NULL CHECK (length(body) <= 8192),
    content     BLOB    NOT NULL CHECK (length(content) = 32),
    received_at INTEGER NOT NULL,
    PRIMARY KEY (site, record)
) STRICT, WITHOUT ROWID;
CREATE INDEX amie_usage_by_month ON amie_usage (site, month);
CREATE INDEX amie_usage_by_time ON amie_usage (site, received_at);

CREATE TABLE amie_failure (
    site        TEXT    NOT NULL REFERENCES amie_site (name),
    number      INTEGER NOT NULL CHECK (number >= 1),
    body        TEXT    NOT NULL CHECK (length(body) <= 8192),
    error       TEXT    NOT NULL CHECK (length(error) <= 1024),
    received_at INTEGER NOT NULL,
    PRIMARY KEY (site, number)
) STRICT, WITHOUT ROWID;
