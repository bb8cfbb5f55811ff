-- AMIE's flows about persons: 7 user modify, 8 person merge (docs/reference/amie.md).
ALTER TABLE amie_transaction DROP CONSTRAINT amie_transaction_flow_check;
ALTER TABLE amie_transaction ADD CONSTRAINT amie_transaction_flow_check CHECK (flow BETWEEN 1 AND 8);
-- The RecordID of a project create, or which two persons are one: said again it is the same transaction.
ALTER TABLE amie_transaction DROP CONSTRAINT amie_transaction_check;
ALTER TABLE amie_transaction ADD CONSTRAINT amie_transaction_check CHECK ((flow IN (1, 8)) = (record IS NOT NULL));
ALTER TABLE amie_account DROP CONSTRAINT amie_account_refused_check;
ALTER TABLE amie_account ADD CONSTRAINT amie_account_refused_check CHECK (refused BETWEEN 0 AND 8);
-- A digest of what the site knows of the person. Null: it was told before this was kept, and is told anew when the operator says so.
ALTER TABLE amie_account ADD COLUMN told BYTEA CHECK (length(told) = 32);
