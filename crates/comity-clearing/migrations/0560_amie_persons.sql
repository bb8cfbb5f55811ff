-- AMIE's flows about persons: 7 user modify, 8 person merge (docs/reference/amie.md). The checks of 0512 name the flows, so that its tables
-- are made anew; what stands in them stays.
CREATE TABLE amie_transaction_more (
    id         INTEGER NOT NULL PRIMARY KEY,
    site       TEXT    NOT NULL REFERENCES amie_site (name),
    number     INTEGER NOT NULL CHECK (number >= 1),
    flow       INTEGER NOT NULL CHECK (flow BETWEEN 1 AND 8),
    project    BLOB    NOT NULL REFERENCES project (id),
    member     BLOB    CHECK (length(member) = 32),
    award      BLOB    REFERENCES award (id),
    -- The RecordID of a project create, or which two persons are one: said again it is the same transaction.
    record     TEXT,
    state      INTEGER NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 2),
    message    TEXT    NOT NULL DEFAULT '',
    began_at   INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    UNIQUE (site, number),
    UNIQUE (site, record),
    CHECK ((flow IN (1, 8)) = (record IS NOT NULL))
) STRICT;
INSERT INTO amie_transaction_more (id, site, number, flow, project, member, award, record, state, message, began_at, changed_at)
SELECT id, site, number, flow, project, member, award, record, state, message, began_at, changed_at FROM amie_transaction;

CREATE TABLE amie_packet_more (
    id           INTEGER NOT NULL PRIMARY KEY,
    trans        INTEGER NOT NULL REFERENCES amie_transaction_more (id),
    number       INTEGER NOT NULL CHECK (number BETWEEN 1 AND 8),
    from_site    INTEGER NOT NULL CHECK (from_site IN (0, 1)),
    kind         TEXT    NOT NULL,
    body         TEXT    NOT NULL CHECK (length(body) <= 65536),
    content      BLOB    CHECK (length(content) = 32),
    reply_to     INTEGER REFERENCES amie_packet_more (id),
    state        INTEGER NOT NULL CHECK (state BETWEEN 0 AND 2),
    client_state TEXT    NOT NULL DEFAULT '' CHECK (length(client_state) <= 64),
    client_json  TEXT    NOT NULL DEFAULT '' CHECK (length(client_json) <= 16384),
    sent_at      INTEGER NOT NULL,
    changed_at   INTEGER NOT NULL,
    UNIQUE (trans, number)
) STRICT;
INSERT INTO amie_packet_more (id, trans, number, from_site, kind, body, content, reply_to, state, client_state, client_json, sent_at, changed_at)
SELECT id, trans, number, from_site, kind, body, content, reply_to, state, client_state, client_json, sent_at, changed_at FROM amie_packet
ORDER BY id;

DROP TABLE amie_packet;
DROP TABLE amie_transaction;
ALTER TABLE amie_transaction_more RENAME TO amie_transaction;
ALTER TABLE amie_packet_more RENAME TO amie_packet;
CREATE INDEX amie_transaction_open ON amie_transaction (site, project) WHERE state = 0;
CREATE INDEX amie_transaction_by_award ON amie_transaction (award) WHERE award IS NOT NULL;
CREATE INDEX amie_packet_open ON amie_packet (id) WHERE state = 0;
CREATE INDEX amie_packet_by_answer ON amie_packet (reply_to) WHERE reply_to IS NOT NULL;

CREATE TABLE amie_account_more (
    site     TEXT    NOT NULL REFERENCES amie_site (name),
    project  BLOB    NOT NULL REFERENCES project (id),
    member   BLOB    NOT NULL CHECK (length(member) = 32),
    person   TEXT    NOT NULL DEFAULT '',
    login    TEXT    NOT NULL DEFAULT '',
    pi       INTEGER NOT NULL DEFAULT 0 CHECK (pi IN (0, 1)),
    standing INTEGER NOT NULL CHECK (standing BETWEEN 0 AND 2),
    refused  INTEGER NOT NULL DEFAULT 0 CHECK (refused BETWEEN 0 AND 8),
    -- A digest of what the site knows of the person. Null: it was told before this was kept, and is told anew when the operator says so.
    told     BLOB    CHECK (length(told) = 32),
    PRIMARY KEY (site, project, member)
) STRICT, WITHOUT ROWID;
INSERT INTO amie_account_more (site, project, member, person, login, pi, standing, refused)
SELECT site, project, member, person, login, pi, standing, refused FROM amie_account;
DROP TABLE amie_account;
ALTER TABLE amie_account_more RENAME TO amie_account;
CREATE INDEX amie_account_by_login ON amie_account (site, project, login);
