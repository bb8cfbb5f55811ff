-- Which commits were made, by writer: after a COMMIT whose answer was lost, the writer's own row says whether it happened.
CREATE TABLE writer (
    started BIGINT NOT NULL PRIMARY KEY CHECK (started >= 1),
    commits BIGINT NOT NULL CHECK (commits >= 0)
);
