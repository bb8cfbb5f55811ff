-- What a member may do: 1 PI, 2 co-PI, 3 manager, 4 member. The first two sign mandates, the first three draw tokens by
-- themselves, a member under a mandate.
ALTER TABLE member ADD COLUMN role INTEGER NOT NULL DEFAULT 3 CHECK (role BETWEEN 1 AND 4);
-- Of those who were registered before there were roles, the first is the PI; the others draw as they did.
UPDATE member SET role = 1
WHERE key = (SELECT m.key FROM member m WHERE m.project = member.project ORDER BY m.added_at, m.key LIMIT 1);

-- A PI's word that somebody may draw while the PI is away.
CREATE TABLE mandate (
    id          BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    project     BLOB    NOT NULL REFERENCES project (id),
    content     BLOB    NOT NULL CHECK (length(content) = 32),
    signer      BLOB    NOT NULL CHECK (length(signer) = 32),
    -- Who redeems it: named in it, or the first who showed the join code.
    member      BLOB    NOT NULL CHECK (length(member) = 32),
    bytes       BLOB    NOT NULL,
    cap         INTEGER NOT NULL CHECK (cap >= 0),
    cap_per_day INTEGER NOT NULL CHECK (cap_per_day >= 0),
    not_before  INTEGER NOT NULL,
    not_after   INTEGER NOT NULL,
    lodged_at   INTEGER NOT NULL,
    revoked_at  INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX mandate_by_project ON mandate (project);

ALTER TABLE token ADD COLUMN mandate BLOB REFERENCES mandate (id);
CREATE INDEX token_by_mandate ON token (mandate, issued_at) WHERE mandate IS NOT NULL;
