-- The spend store of a node whose gateways share it. Types and statements are those that engines with PostgreSQL's wire
-- protocol have too: no advisory locks, no notifications, no sequences, BIGINT throughout.

-- Starts of gateways: each takes the next number as its fence (rule 11). `news` counts what is said to all of them.
CREATE TABLE spend_fence (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    fence BIGINT NOT NULL CHECK (fence >= 0),
    news BIGINT NOT NULL CHECK (news >= 0)
);
INSERT INTO spend_fence (one, fence, news) VALUES (1, 0, 0);

-- A gateway that lives. Every round updates its row first: who has lost it writes nothing.
CREATE TABLE replica (
    fence BIGINT PRIMARY KEY CHECK (fence >= 1),
    round BIGINT NOT NULL CHECK (round >= 0),
    -- Unix seconds of the database's clock.
    expires_at BIGINT NOT NULL
);

-- Locked by whoever decides on it. `version` counts changes of the account: a gateway that knows this one reads nothing.
CREATE TABLE token (
    token BYTEA PRIMARY KEY CHECK (length(token) = 16),
    root BYTEA NOT NULL CHECK (length(root) = 32),
    version BIGINT NOT NULL DEFAULT 0 CHECK (version >= 0),
    closed BOOLEAN NOT NULL DEFAULT FALSE,
    final BYTEA,
    delivered BOOLEAN NOT NULL DEFAULT FALSE,
    claims BIGINT NOT NULL DEFAULT 0 CHECK (claims >= 0),
    -- A signed claim without an answer.
    pending BYTEA
);

CREATE TABLE superseded (
    token BYTEA NOT NULL REFERENCES token,
    at BYTEA NOT NULL CHECK (length(at) = 32),
    PRIMARY KEY (token, at)
);

CREATE TABLE chain (
    leaf BYTEA PRIMARY KEY CHECK (length(leaf) = 32),
    token BYTEA NOT NULL REFERENCES token,
    bytes BYTEA NOT NULL
);
CREATE INDEX chain_of_token ON chain (token);

-- What was charged under the token and under each block: never above its cap.
CREATE TABLE spent (
    token BYTEA NOT NULL REFERENCES token,
    id BYTEA NOT NULL CHECK (length(id) = 32),
    amount BIGINT NOT NULL CHECK (amount >= 0),
    cap BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (token, id),
    CONSTRAINT spent_below_cap CHECK (amount <= cap)
);

CREATE TABLE lane (
    token BYTEA NOT NULL REFERENCES token,
    leaf BYTEA NOT NULL CHECK (length(leaf) = 32),
    lane BIGINT NOT NULL CHECK (lane BETWEEN 0 AND 1023),
    n BIGINT NOT NULL CHECK (n >= 1),
    seq_highest BIGINT NOT NULL CHECK (seq_highest >= 1),
    total BIGINT NOT NULL CHECK (total >= 0),
    remainder BIGINT NOT NULL CHECK (remainder BETWEEN 0 AND 999999),
    meters BYTEA NOT NULL,
    flags BYTEA NOT NULL,
    frontier BYTEA NOT NULL CHECK (length(frontier) % 32 = 0),
    acknowledged_n BIGINT NOT NULL,
    acknowledged BIGINT NOT NULL,
    acknowledgement BYTEA,
    claimed_n BIGINT NOT NULL,
    claimed_acknowledged_n BIGINT NOT NULL CHECK (claimed_acknowledged_n >= 0),
    version BIGINT NOT NULL,
    PRIMARY KEY (token, leaf, lane),
    CHECK (acknowledged_n BETWEEN 0 AND n),
    CHECK (acknowledged BETWEEN 0 AND total),
    CHECK (claimed_n BETWEEN 0 AND n)
);
CREATE INDEX lane_due ON lane (token) WHERE n > claimed_n OR acknowledged_n > claimed_acknowledged_n;

-- Unique on (token, leaf, lane, seq, item) and on (token, leaf, lane, n): a slot is charged once (rule 2).
CREATE TABLE charge (
    token BYTEA NOT NULL,
    leaf BYTEA NOT NULL,
    lane BIGINT NOT NULL,
    seq BIGINT NOT NULL CHECK (seq >= 1),
    item BIGINT NOT NULL CHECK (item >= 0),
    n BIGINT NOT NULL CHECK (n >= 1),
    authority BYTEA NOT NULL CHECK (length(authority) = 32),
    charge BIGINT NOT NULL CHECK (charge >= 0),
    total BIGINT NOT NULL,
    receipt_id BYTEA NOT NULL CHECK (length(receipt_id) = 32),
    receipt BYTEA NOT NULL,
    evidence TEXT NOT NULL,
    signature BYTEA NOT NULL CHECK (length(signature) = 64),
    PRIMARY KEY (token, leaf, lane, seq, item),
    FOREIGN KEY (token, leaf, lane) REFERENCES lane,
    CHECK (total >= charge)
);
CREATE UNIQUE INDEX charge_n ON charge (token, leaf, lane, n);

CREATE TABLE acknowledgement (
    token BYTEA NOT NULL REFERENCES token,
    id BYTEA NOT NULL CHECK (length(id) = 32),
    bytes BYTEA NOT NULL,
    PRIMARY KEY (token, id)
);

-- Open holds, of all gateways. One at most for a slot. It goes with its charge, or with its gateway's fence.
CREATE TABLE hold (
    id BIGINT PRIMARY KEY,
    fence BIGINT NOT NULL REFERENCES replica,
    token BYTEA NOT NULL REFERENCES token,
    leaf BYTEA NOT NULL CHECK (length(leaf) = 32),
    lane BIGINT NOT NULL CHECK (lane BETWEEN 0 AND 1023),
    seq BIGINT NOT NULL CHECK (seq >= 1),
    item BIGINT NOT NULL CHECK (item >= 0),
    subject TEXT NOT NULL,
    amount BIGINT NOT NULL CHECK (amount >= 0),
    body TEXT NOT NULL,
    UNIQUE (token, leaf, lane, seq, item)
);
CREATE INDEX hold_of_fence ON hold (fence);
CREATE INDEX hold_of_subject ON hold (subject);

-- Rate windows, in the book's own form. Locked by whoever judges them.
CREATE TABLE subject (
    subject TEXT PRIMARY KEY,
    body TEXT NOT NULL
);

-- Who sends claims of a token to its house.
CREATE TABLE claiming (
    token BYTEA PRIMARY KEY REFERENCES token,
    fence BIGINT NOT NULL REFERENCES replica
);
CREATE INDEX claiming_of_fence ON claiming (fence);

CREATE TABLE access_grant (
    id BYTEA PRIMARY KEY CHECK (length(id) = 32),
    subject TEXT NOT NULL,
    bytes BYTEA NOT NULL,
    at BIGINT NOT NULL
);
