-- What a lot gave is summed for all lots at once, by audits alone: no reservation need write an index for it.
DROP INDEX draw_by_lot;
