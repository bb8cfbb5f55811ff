-- The spend store. One writer, which holds the file's lock; `fence` tells a writer that came too late (rule 11).
CREATE TABLE spend_fence (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    fence INTEGER NOT NULL CHECK (fence >= 0),
    commits INTEGER NOT NULL CHECK (commits >= 0)
) STRICT;
INSERT INTO spend_fence (one, fence, commits) VALUES (1, 0, 0);

CREATE TABLE token (
    token BLOB PRIMARY KEY CHECK (length(token) = 16),
    root BLOB NOT NULL CHECK (length(root) = 32),
    closed INTEGER NOT NULL DEFAULT 0 CHECK (closed IN (0, 1)),
    final BLOB,
    delivered INTEGER NOT NULL DEFAULT 0 CHECK (delivered IN (0, 1)),
    claims INTEGER NOT NULL DEFAULT 0 CHECK (claims >= 0),
    -- A signed claim without an answer.
    pending BLOB
) STRICT, WITHOUT ROWID;

CREATE TABLE superseded (
    token BLOB NOT NULL REFERENCES token,
    at BLOB NOT NULL CHECK (length(at) = 32),
    PRIMARY KEY (token, at)
) STRICT, WITHOUT ROWID;

CREATE TABLE chain (
    leaf BLOB PRIMARY KEY CHECK (length(leaf) = 32),
    token BLOB NOT NULL REFERENCES token,
    bytes BLOB NOT NULL
) STRICT;
CREATE INDEX chain_of_token ON chain (token);

-- What was charged under the token and under each block.
CREATE TABLE spent (
    token BLOB NOT NULL REFERENCES token,
    id BLOB NOT NULL CHECK (length(id) = 32),
    amount INTEGER NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (token, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE lane (
    token BLOB NOT NULL REFERENCES token,
    leaf BLOB NOT NULL CHECK (length(leaf) = 32),
    lane INTEGER NOT NULL CHECK (lane BETWEEN 0 AND 1023),
    n INTEGER NOT NULL CHECK (n >= 1),
    seq_highest INTEGER NOT NULL CHECK (seq_highest >= 1),
    total INTEGER NOT NULL CHECK (total >= 0),
    remainder INTEGER NOT NULL CHECK (remainder BETWEEN 0 AND 999999),
    meters BLOB NOT NULL,
    flags BLOB NOT NULL,
    frontier BLOB NOT NULL CHECK (length(frontier) % 32 = 0),
    acknowledged_n INTEGER NOT NULL CHECK (acknowledged_n BETWEEN 0 AND n),
    acknowledged INTEGER NOT NULL CHECK (acknowledged BETWEEN 0 AND total),
    acknowledgement BLOB,
    claimed_n INTEGER NOT NULL CHECK (claimed_n BETWEEN 0 AND n),
    claimed_acknowledged_n INTEGER NOT NULL CHECK (claimed_acknowledged_n >= 0),
    PRIMARY KEY (token, leaf, lane)
) STRICT, WITHOUT ROWID;
CREATE INDEX lane_due ON lane (token) WHERE n > claimed_n OR acknowledged_n > claimed_acknowledged_n;

-- Unique on (token, leaf, lane, seq, item) and on (token, leaf, lane, n): a slot is charged once (rule 2).
CREATE TABLE charge (
    token BLOB NOT NULL,
    leaf BLOB NOT NULL,
    lane INTEGER NOT NULL,
    seq INTEGER NOT NULL CHECK (seq >= 1),
    item INTEGER NOT NULL CHECK (item >= 0),
    n INTEGER NOT NULL CHECK (n >= 1),
    authority BLOB NOT NULL CHECK (length(authority) = 32),
    charge INTEGER NOT NULL CHECK (charge >= 0),
    total INTEGER NOT NULL CHECK (total >= charge),
    receipt_id BLOB NOT NULL CHECK (length(receipt_id) = 32),
    receipt BLOB NOT NULL,
    evidence TEXT NOT NULL,
    signature BLOB NOT NULL CHECK (length(signature) = 64),
    PRIMARY KEY (token, leaf, lane, seq, item),
    FOREIGN KEY (token, leaf, lane) REFERENCES lane
) STRICT;
CREATE UNIQUE INDEX charge_n ON charge (token, leaf, lane, n);

CREATE TABLE acknowledgement (
    token BLOB NOT NULL REFERENCES token,
    id BLOB NOT NULL CHECK (length(id) = 32),
    bytes BLOB NOT NULL,
    PRIMARY KEY (token, id)
) STRICT;

CREATE TABLE access_grant (
    id BLOB PRIMARY KEY CHECK (length(id) = 32),
    subject TEXT NOT NULL,
    bytes BLOB NOT NULL,
    at INTEGER NOT NULL
) STRICT;
