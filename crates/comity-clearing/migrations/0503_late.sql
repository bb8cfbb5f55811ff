-- How much of a token was claimed after its close, as recorded so far: the same again is no new exception.
ALTER TABLE token ADD COLUMN late INTEGER NOT NULL DEFAULT 0 CHECK (late >= 0);
