create view robust_accuracy as
with counted as (
    select
        measurement_id, checkpoint, data, norm, budget, attack,
        count(*) as decided,
        count(*) filter (where robust) as robust,
        count(*) filter (where known_broken) as known_broken,
        count(*) filter (where broken_by = 'clean') as wrong,
        -- what broke a sample alone, and a spared sample has no verdict of its own
        case when count(robust_to_this_attack) = count(*) then count(*) filter (where robust_to_this_attack) end as robust_to_this_attack,
        sum(evaluations) as evaluations
    from verdicts
    where robust is not null
    group by all
)
select
    c.measurement_id,
    c.checkpoint,
    c.data,
    c.norm,
    c.budget,
    c.attack,
    d.n,
    c.decided,
    1 - c.wrong / c.decided as clean_accuracy,
    c.robust / c.decided as robust_accuracy,
    wilson_low(c.robust, c.decided) as low,
    wilson_high(c.robust, c.decided) as high,
    c.known_broken,
    c.robust_to_this_attack / c.decided as robust_accuracy_to_this_attack,
    c.evaluations
from counted c
join measurements m using (measurement_id)
join datasets d on d.dataset_id = m.dataset_id;
comment on view robust_accuracy is 'Robust accuracy of every evaluation at a budget: one row an evaluation. From epsilons: security_curves.';
comment on column robust_accuracy.measurement_id is 'Measurement: measurements.measurement_id.';
comment on column robust_accuracy.checkpoint is 'Name of the network.';
comment on column robust_accuracy.data is 'Name of the data set.';
comment on column robust_accuracy.norm is 'Norm of the budget.';
comment on column robust_accuracy.budget is 'Radius on the [0, 1] scale.';
comment on column robust_accuracy.attack is 'Attack or ensemble.';
comment on column robust_accuracy.n is 'Samples selected.';
comment on column robust_accuracy.decided is 'Samples with a verdict; fewer than n where a run ended early, and then a biased part: what falls is decided first.';
comment on column robust_accuracy.clean_accuracy is 'Share of the decided samples that are right without any perturbation.';
comment on column robust_accuracy.robust_accuracy is 'Share of the decided samples without a known adversarial within the budget: an upper bound.';
comment on column robust_accuracy.low is 'Lower end of its Wilson interval at 95 %.';
comment on column robust_accuracy.high is 'Upper end of its Wilson interval at 95 %.';
comment on column robust_accuracy.known_broken is 'Samples that only other measurements in this store broke.';
comment on column robust_accuracy.robust_accuracy_to_this_attack is 'The same by this attack alone; NULL where it was spared known samples.';
comment on column robust_accuracy.evaluations is 'Forward-backward passes spent, all samples and attacks together.';
