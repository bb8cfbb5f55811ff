-- Logins under way (docs/operating/persons.md): what only the house and the issuer know of them, for a quarter of an hour.
CREATE TABLE login (
    id         BYTEA   NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    -- Whose key signed the call that began it: no other goes on with it.
    key        BYTEA   NOT NULL CHECK (length(key) = 32),
    issuer     TEXT    NOT NULL CHECK (length(issuer) <= 512),
    mfa        BIGINT  NOT NULL CHECK (mfa IN (0, 1)),
    -- Of a browser's: where it comes back, and what must come with it. Empty in a device's.
    redirect   TEXT    NOT NULL DEFAULT '' CHECK (length(redirect) <= 256),
    state      TEXT    NOT NULL DEFAULT '' CHECK (length(state) <= 64),
    nonce      TEXT    NOT NULL DEFAULT '' CHECK (length(nonce) <= 64),
    -- The PKCE verifier, or the device code; empty once it is done.
    secret     TEXT    NOT NULL CHECK (length(secret) <= 4096),
    interval_s BIGINT  NOT NULL CHECK (interval_s >= 1),
    polled_at  BIGINT  NOT NULL,
    expires_at BIGINT  NOT NULL,
    done_at    BIGINT,
    -- What was not believed: JSON.
    ignored    TEXT    NOT NULL DEFAULT '[]' CHECK (length(ignored) <= 65536)
);
CREATE INDEX login_by_key ON login (key);
CREATE INDEX login_by_end ON login (expires_at);
