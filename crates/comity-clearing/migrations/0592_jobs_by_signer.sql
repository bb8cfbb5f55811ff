-- What jobs drew within a lost key's mandates is stopped with the key: they are looked up by who signed for them.
CREATE INDEX mandate_by_signer ON mandate (signer) WHERE parent IS NOT NULL;
