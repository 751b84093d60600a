-- Compared again, by other verdicts of the same name: the new ones count, as new statistics do.
update comparisons
set budget = $budget, dense_verdicts = $dense_verdicts, pruned_verdicts = $pruned_verdicts
where measurement_id = $measurement_id and pruned_checkpoint_id = $pruned_checkpoint_id and basis = $basis
    and (budget, dense_verdicts, pruned_verdicts) is distinct from ($budget, $dense_verdicts, $pruned_verdicts)
