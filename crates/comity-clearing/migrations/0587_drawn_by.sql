-- Whose key drew a token: a key that is revoked stops what it drew. Of a token from before, and of one learnt from a claim: none.
ALTER TABLE token ADD COLUMN drawn_by BLOB CHECK (length(drawn_by) = 32);
