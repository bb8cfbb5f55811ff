-- Of a long tail what is asked for are amounts of its total (JSON lists of them, and of those that were shown), drawn with the house's signature.
ALTER TABLE challenge ADD COLUMN amounts TEXT NOT NULL DEFAULT '[]';
ALTER TABLE challenge ADD COLUMN covered TEXT NOT NULL DEFAULT '[]';
ALTER TABLE challenge ADD COLUMN blind BYTEA CHECK (length(blind) = 64);
-- What of the lane's total is proven by it. Of one from before: all.
ALTER TABLE challenge ADD COLUMN upto BIGINT CHECK (upto >= 0);
