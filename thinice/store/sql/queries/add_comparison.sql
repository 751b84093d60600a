insert into comparisons by name
select
    $measurement_id as measurement_id,
    $pruned_checkpoint_id as pruned_checkpoint_id,
    $basis as basis,
    $budget as budget,
    $dense_verdicts as dense_verdicts,
    $pruned_verdicts as pruned_verdicts,
    $run_id as run_id,
    $now as created
where not exists (
    from comparisons
    where measurement_id = $measurement_id and pruned_checkpoint_id = $pruned_checkpoint_id and basis = $basis
)
