-- What is about one token or award is found without reading everything: audits, totals and reports ask for nothing else.
CREATE INDEX transfer_by_reference ON transfer (reference, kind);
CREATE INDEX account_by_reference ON account (reference, code);
