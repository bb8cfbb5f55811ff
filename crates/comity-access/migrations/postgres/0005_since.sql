-- Since when an event stands in a house's log: its leaves in all logs of this node, and the first head over a leaf.
CREATE INDEX access_leaf_of ON access_leaf (kind, of_id, n, log);
CREATE INDEX access_head_over ON access_head (log, size, n);
