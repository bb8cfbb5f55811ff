-- For which model a token is that was drawn under a mandate: a mandate may have caps of single models. None: for several, or from before.
ALTER TABLE token ADD COLUMN model TEXT;
-- Whether somebody has shown the join code. Until then it is its signer's, who brought it, and may sign it anew.
ALTER TABLE mandate ADD COLUMN redeemed BIGINT NOT NULL DEFAULT 1 CHECK (redeemed IN (0, 1));
CREATE INDEX mandate_by_member ON mandate (project, member);
-- Of a mandate that a member signed for a job: within which of their own it is.
ALTER TABLE mandate ADD COLUMN parent BYTEA CHECK (length(parent) = 16);
CREATE INDEX mandate_by_parent ON mandate (parent) WHERE parent IS NOT NULL;
