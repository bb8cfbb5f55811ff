-- What was seen in what a node showed: {receipt number: {seq, item}} as JSON. Two receipts for one request are no answer.
ALTER TABLE challenge ADD COLUMN slots TEXT NOT NULL DEFAULT '{}';
