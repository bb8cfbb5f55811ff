-- Since when an event stands in a house's log: its leaves in all logs of this node, and the first head over a leaf.
CREATE INDEX access_leaf_of ON access_leaf (kind, of_id, n, log);
CREATE INDEX access_head_over ON access_head (log, size, n);

-- Several may write events at once, and none while another log begins: else its event could be queued before those that came before it.
CREATE OR REPLACE FUNCTION access_event_waits() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM access_seal WHERE one = 1 FOR SHARE;
    INSERT INTO access_unsealed (kind, of_id, n) VALUES (1, NEW.application, NEW.n);
    RETURN NEW;
END $$;
CREATE OR REPLACE FUNCTION access_case_event_waits() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM access_seal WHERE one = 1 FOR SHARE;
    INSERT INTO access_unsealed (kind, of_id, n) VALUES (2, NEW.case_id, NEW.n);
    RETURN NEW;
END $$;
