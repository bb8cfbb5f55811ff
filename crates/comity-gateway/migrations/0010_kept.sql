-- Whose a chain is, by the project's pseudonym: what is kept of one project is found without looking at everybody's.
-- NULL: written before stores knew, and filled in by and by; '': a chain that says nobody's.
ALTER TABLE chain ADD COLUMN subject TEXT;
CREATE INDEX chain_of_subject ON chain (subject, token);

-- Homes of this node's processes in which texts of calls lie, and until when some may.
CREATE TABLE text_home (
    id TEXT PRIMARY KEY,
    place TEXT NOT NULL,
    seen_at INTEGER NOT NULL CHECK (seen_at >= 0),
    until INTEGER NOT NULL CHECK (until >= 0)
) STRICT;
