-- What comes from the table statistics has its comments from there.
create view separation as
select
    c.comparison_id,
    dense.name as dense,
    pruned.name as pruned,
    pruned.sparsity,
    d.name as data,
    a.norm,
    a.name as attack,
    c.basis,
    t.n_kept + t.n_lost + t.n_gained + t.n_wrong as n,
    (t.n_kept + t.n_lost) / n as dense_accuracy,
    (t.n_kept + t.n_gained) / n as pruned_accuracy,
    t.* exclude (comparison_id, run_id, created, notes),
    t.notes
from comparisons c
join measurements m using (measurement_id)
join checkpoints dense on dense.checkpoint_id = m.checkpoint_id
join checkpoints pruned on pruned.checkpoint_id = c.pruned_checkpoint_id
join datasets d on d.dataset_id = m.dataset_id
join attacks a on a.attack_id = m.attack_id
left join statistics t on t.comparison_id = c.comparison_id;
comment on view separation is 'How well distance to the boundary tells lost samples from kept ones: one row a comparison.';
comment on column separation.comparison_id is 'Comparison: comparisons.comparison_id.';
comment on column separation.dense is 'Name of the dense network.';
comment on column separation.pruned is 'Name of the pruned network.';
comment on column separation.sparsity is 'Fraction of prunable weights of the pruned network that are zero.';
comment on column separation.data is 'Name of the data set.';
comment on column separation.norm is 'Norm of epsilon.';
comment on column separation.attack is 'Attack that found the epsilons.';
comment on column separation.basis is 'What correct means: clean, the prediction on the clean sample; or robust at a budget, and by which attack.';
comment on column separation.n is 'Samples compared; NULL, as all numbers, where a run ended before the statistics.';
comment on column separation.dense_accuracy is 'Share of samples that the dense network classifies correctly.';
comment on column separation.pruned_accuracy is 'Share of samples that the pruned network classifies correctly.';
