-- Whose projects are: only an owner's own may be given what it earned, and what these paid it keeps its terms.
CREATE TABLE project_of (
    project      BYTEA   NOT NULL REFERENCES project (id),
    -- The newest one holds.
    place        BIGINT  NOT NULL CHECK (place >= 1),
    organisation BYTEA   NOT NULL CHECK (length(organisation) = 16),
    -- The act that states it.
    act          BYTEA   NOT NULL CHECK (length(act) = 32),
    recorded_at  BIGINT  NOT NULL,
    PRIMARY KEY (project, place)
);

CREATE TRIGGER project_of_is_kept BEFORE UPDATE OR DELETE ON project_of FOR EACH ROW EXECUTE FUNCTION rows_are_kept();
