-- Which commits were made, by writer: after a COMMIT whose answer was lost, the writer's own row says whether it happened.
CREATE TABLE writer (
    started INTEGER NOT NULL PRIMARY KEY CHECK (started >= 1),
    commits INTEGER NOT NULL CHECK (commits >= 0)
) STRICT;

DROP TABLE commit_mark;
