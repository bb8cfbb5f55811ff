-- Whose projects are: only an owner's own may be given what it earned, and what these paid it keeps its terms.
CREATE TABLE project_of (
    project      BLOB    NOT NULL REFERENCES project (id),
    -- The newest one holds.
    place        INTEGER NOT NULL CHECK (place >= 1),
    organisation BLOB    NOT NULL CHECK (length(organisation) = 16),
    -- The act that states it.
    act          BLOB    NOT NULL CHECK (length(act) = 32),
    recorded_at  INTEGER NOT NULL,
    PRIMARY KEY (project, place)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER project_of_is_kept BEFORE DELETE ON project_of
BEGIN SELECT RAISE(ABORT, 'whose a project was is never deleted'); END;
CREATE TRIGGER project_of_is_never_changed BEFORE UPDATE ON project_of
BEGIN SELECT RAISE(ABORT, 'whose a project was is never changed'); END;
