create view leaderboard as
with areas as (
    select
        b.checkpoint_id, b.dense_checkpoint_id, b.dataset_id, b.protocol,
        count(*) as n,
        avg(case
            when t.pruned_outcome = 'not_found' then 1
            else least(t.pruned_epsilon, (b.protocol ->> 'curve_end')::double) / (b.protocol ->> 'curve_end')::double
        end) as area,
        count(*) filter (where t.transition = 'S1,0') as lost
    from benchmark_networks b
    join transitions t using (comparison_id)
    group by all
)
select
    b.method,
    k.name as network,
    b.model_key,
    d.name as data,
    b.structure,
    b.removed_share as sparsity,
    a.n,
    r.clean_accuracy,
    r.robust_accuracy_to_this_attack as robust_accuracy,
    wilson_low(round(r.robust_accuracy_to_this_attack * r.decided)::bigint, r.decided) as low,
    wilson_high(round(r.robust_accuracy_to_this_attack * r.decided)::bigint, r.decided) as high,
    r.attack,
    r.budget,
    a.area,
    a.lost,
    s.auc,
    'measured' as source,
    b.comparison_id,
    b.autoattack_id
from benchmark_networks b
join areas a using (checkpoint_id, dense_checkpoint_id, dataset_id, protocol)
join checkpoints k using (checkpoint_id)
join datasets d using (dataset_id)
join robust_accuracy r on r.measurement_id = b.autoattack_id
left join statistics s using (comparison_id)
union all
select
    method, null, concat_ws('_', method, architecture, data, structure, sparsity), data, structure, sparsity / 100, n,
    clean_accuracy, robust_accuracy,
    wilson_low(round(robust_accuracy * n)::bigint, n), wilson_high(round(robust_accuracy * n)::bigint, n),
    'autoattack', budget, null, null, null, source, null, null
from published_accuracies;
comment on view leaderboard is 'Networks of the benchmark: those measured here, and the published rows, which are of other networks and samples. Ranks with what they leave open: thinice benchmark.';
comment on column leaderboard.method is 'Key of the method; NULL where none was given.';
comment on column leaderboard.network is 'Name of the network; NULL of a published row.';
comment on column leaderboard.model_key is 'Method or name, and the category in which networks are ranked: architecture, data, structure, percent; NULL where there is no such leaderboard.';
comment on column leaderboard.data is 'Data set.';
comment on column leaderboard.structure is 'US: single weights are zero; S: whole filters or channels are.';
comment on column leaderboard.sparsity is 'Share of the dense network''s prunable weights that are zero or gone; of a published row as it says.';
comment on column leaderboard.n is 'Samples.';
comment on column leaderboard.clean_accuracy is 'Share of the samples that are right.';
comment on column leaderboard.robust_accuracy is 'Share that the attack alone does not break within the budget: an upper bound.';
comment on column leaderboard.low is 'Lower end of its Wilson interval at 95 %.';
comment on column leaderboard.high is 'Upper end of its Wilson interval at 95 %.';
comment on column leaderboard.attack is 'Attack at the budget.';
comment on column leaderboard.budget is 'Radius in linf on the [0, 1] scale.';
comment on column leaderboard.area is 'Mean robust accuracy over all budgets up to the end of the curve, by minimum norms; NULL of published rows.';
comment on column leaderboard.lost is 'Samples that pruning loses (S1,0), clean; NULL of published rows.';
comment on column leaderboard.auc is 'Chance that a kept sample lies farther from the dense boundary than a lost one; NULL of published rows.';
comment on column leaderboard.source is 'measured, or who published it.';
comment on column leaderboard.comparison_id is 'Comparison with the dense network: comparisons.comparison_id; NULL of published rows.';
comment on column leaderboard.autoattack_id is 'Measurement: measurements.measurement_id; NULL of published rows.';
