-- Quotes under which nobody drew a token are dropped a day after they ended; `kept`: somebody did.
ALTER TABLE quote ADD COLUMN kept BIGINT NOT NULL DEFAULT 0 CHECK (kept IN (0, 1));
CREATE INDEX quote_to_look_at ON quote (expires_at) WHERE kept = 0;
-- So that it is found by when a token was drawn.
DROP INDEX token_by_project;
CREATE INDEX token_by_project ON token (project, issued_at);
