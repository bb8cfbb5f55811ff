-- The register of what operators do by hand (spec/11-access.md §11.9): copies of lines that other stores have, one behind the other. Rows are
-- added and never changed.
CREATE TABLE access_act (
    n BIGINT PRIMARY KEY CHECK (n >= 1),
    -- Zeros: there is one register of a node.
    register BYTEA NOT NULL CHECK (length(register) = 16),
    -- What it is a copy of.
    source TEXT NOT NULL CHECK (source <> ''),
    line BIGINT NOT NULL CHECK (line >= 1),
    bytes BYTEA NOT NULL CHECK (length(bytes) <= 16384),
    UNIQUE (source, line)
);
CREATE FUNCTION access_act_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'an act is never changed or deleted' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER access_act_stays BEFORE UPDATE OR DELETE ON access_act FOR EACH ROW EXECUTE FUNCTION access_act_is_kept();

-- A third kind of what waits to be sealed: an act of the register.
ALTER TABLE access_unsealed DROP CONSTRAINT access_unsealed_kind_check;
ALTER TABLE access_unsealed ADD CONSTRAINT access_unsealed_kind_check CHECK (kind IN (1, 2, 3));
CREATE FUNCTION access_act_waits() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM access_seal WHERE one = 1 FOR SHARE;
    INSERT INTO access_unsealed (kind, of_id, n) VALUES (3, NEW.register, NEW.n);
    RETURN NEW;
END $$;
CREATE TRIGGER access_act_waits AFTER INSERT ON access_act FOR EACH ROW EXECUTE FUNCTION access_act_waits();
