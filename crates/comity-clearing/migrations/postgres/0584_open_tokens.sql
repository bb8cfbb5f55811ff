-- What a credit note must leave alone (spec/07-settlement.md S-24): tokens of an owner that are not closed, and those of which a final
-- was taken of late.
CREATE INDEX token_open_of_owner ON token (owner, id) WHERE phase < 2;
CREATE INDEX final_by_time ON final (taken_at);
