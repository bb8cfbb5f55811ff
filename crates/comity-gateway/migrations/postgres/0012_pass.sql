-- Texts of a project and category that the policy's row holds, and that the operator lets pass until a moment.
CREATE TABLE pass (
    subject TEXT NOT NULL CHECK (subject <> ''),
    category BIGINT NOT NULL CHECK (category >= 0),
    until BIGINT NOT NULL CHECK (until >= 0),
    PRIMARY KEY (subject, category)
);

-- Who said so, why and when. Rows are added and never changed: the register of the access store (spec/11-access.md §11.9) has a copy of each.
CREATE TABLE pass_log (
    n BIGINT NOT NULL PRIMARY KEY CHECK (n > 0),
    subject TEXT NOT NULL CHECK (subject <> ''),
    category BIGINT NOT NULL CHECK (category >= 0),
    -- NULL: it was ended.
    until BIGINT CHECK (until >= 0),
    author TEXT NOT NULL CHECK (author <> ''),
    reason TEXT NOT NULL CHECK (reason <> ''),
    at BIGINT NOT NULL CHECK (at >= 0)
);
