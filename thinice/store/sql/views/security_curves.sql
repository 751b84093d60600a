create view security_curves as
with distances as (
    -- a prediction that is not a number is wrong without any perturbation
    select
        measurement_id,
        outcome = 'not_found' and clean_prediction is not null as not_found,
        case when clean_prediction is null then 0 else epsilon end as epsilon
    from epsilons
),
steps as (
    -- every epsilon, and 0 where nothing is wrong
    select measurement_id, epsilon as budget, 1 as reached
    from distances
    where epsilon is not null
    union all
    select measurement_id, 0, 0
    from measurements
),
budgets as (
    select measurement_id, budget, sum(reached) as reached
    from steps
    group by all
),
totals as (
    select measurement_id, count(*) as n, count(*) filter (where not_found) as not_found
    from distances
    group by all
)
select
    measurement_id,
    k.name as checkpoint,
    d.name as data,
    a.norm,
    a.name as attack,
    b.budget,
    1 - sum(b.reached) over (partition by measurement_id order by b.budget) / t.n as robust_accuracy,
    t.n::integer as n,
    t.not_found::integer as not_found,
    wilson_low(robust_accuracy * t.n, t.n) as low,
    wilson_high(robust_accuracy * t.n, t.n) as high
from budgets b
join totals t using (measurement_id)
join measurements m using (measurement_id)
join checkpoints k on k.checkpoint_id = m.checkpoint_id
join datasets d on d.dataset_id = m.dataset_id
join attacks a on a.attack_id = m.attack_id;
comment on view security_curves is 'Robust accuracy at every budget where it changes: one row a measurement and budget.';
comment on column security_curves.measurement_id is 'Measurement: measurements.measurement_id.';
comment on column security_curves.checkpoint is 'Name of the network.';
comment on column security_curves.data is 'Name of the data set.';
comment on column security_curves.norm is 'Norm of the budget.';
comment on column security_curves.attack is 'Attack that found the epsilons.';
comment on column security_curves.budget is 'Radius on the [0, 1] scale; at 0 robust accuracy is the clean accuracy.';
comment on column security_curves.robust_accuracy is 'Share of samples without a known adversarial within the budget, an upper bound: epsilon > budget, or not found.';
comment on column security_curves.n is 'Samples measured.';
comment on column security_curves.not_found is 'Samples counted as robust at every budget because nothing was found.';
comment on column security_curves.low is 'Lower end of the Wilson interval of robust_accuracy at 95 %, point by point.';
comment on column security_curves.high is 'Upper end of the Wilson interval of robust_accuracy at 95 %, point by point.';
comment on column separation.basis is 'What correct means: clean, the prediction on the clean sample; or robust at a budget, and by which attack.';
