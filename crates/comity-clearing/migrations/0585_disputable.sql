-- What a credit note and a payment run must leave alone (spec/07-settlement.md S-26), found by owner: of a token, how many claims were
-- not drawn from and how many challenges and disputes are open, and when its newest final was taken.
ALTER TABLE token ADD COLUMN undecided INTEGER NOT NULL DEFAULT 0 CHECK (undecided >= 0);
ALTER TABLE token ADD COLUMN final_at INTEGER;

UPDATE token SET undecided = w.number FROM (
    SELECT token, COUNT(*) AS number FROM (
        SELECT token FROM claim WHERE drawn = 0 UNION ALL
        SELECT token FROM challenge WHERE state = 0 UNION ALL
        SELECT token FROM dispute WHERE state = 0
    ) undecided GROUP BY token
) w WHERE w.token = token.id;
UPDATE token SET final_at = f.newest FROM (SELECT token, MAX(taken_at) AS newest FROM final GROUP BY token) f WHERE f.token = token.id;

CREATE INDEX token_disputable ON token (owner, id) WHERE paid > 0 AND (phase < 2 OR waiting > 0 OR undecided > 0);
CREATE INDEX token_by_final ON token (owner, final_at) WHERE final_at IS NOT NULL;
DROP INDEX token_open_of_owner;
DROP INDEX final_by_time;

CREATE TRIGGER claim_is_to_draw AFTER INSERT ON claim WHEN NEW.drawn = 0
BEGIN UPDATE token SET undecided = undecided + 1 WHERE id = NEW.token; END;
CREATE TRIGGER claim_was_drawn AFTER UPDATE OF drawn ON claim WHEN OLD.drawn = 0 AND NEW.drawn = 1
BEGIN UPDATE token SET undecided = undecided - 1 WHERE id = NEW.token; END;
CREATE TRIGGER challenge_is_open AFTER INSERT ON challenge WHEN NEW.state = 0
BEGIN UPDATE token SET undecided = undecided + 1 WHERE id = NEW.token; END;
CREATE TRIGGER challenge_is_over AFTER UPDATE OF state ON challenge WHEN OLD.state = 0 AND NEW.state <> 0
BEGIN UPDATE token SET undecided = undecided - 1 WHERE id = NEW.token; END;
CREATE TRIGGER dispute_is_open AFTER INSERT ON dispute WHEN NEW.state = 0
BEGIN UPDATE token SET undecided = undecided + 1 WHERE id = NEW.token; END;
CREATE TRIGGER dispute_is_over AFTER UPDATE OF state ON dispute WHEN OLD.state = 0 AND NEW.state <> 0
BEGIN UPDATE token SET undecided = undecided - 1 WHERE id = NEW.token; END;
CREATE TRIGGER final_is_dated AFTER INSERT ON final
BEGIN UPDATE token SET final_at = MAX(COALESCE(final_at, 0), NEW.taken_at) WHERE id = NEW.token; END;
