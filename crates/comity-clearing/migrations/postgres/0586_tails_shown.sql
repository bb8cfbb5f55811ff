-- A tail is paid once its node has shown what it rests on: a third cause, and which claim brought a lane's newest receipt.
ALTER TABLE challenge DROP CONSTRAINT challenge_cause_check;
-- Cause: 1 drawn from a claim, 2 a holder's, 3 a tail that has stood its time.
ALTER TABLE challenge ADD CONSTRAINT challenge_cause_check CHECK (cause BETWEEN 1 AND 3);
-- Of a lane from before: none.
ALTER TABLE lane ADD COLUMN claim BYTEA CHECK (length(claim) = 32);
-- 0 nothing, 2 all: what is not paid now. No tail is, with or without a holder's challenge.
UPDATE token SET frozen = 0 WHERE frozen = 1;
