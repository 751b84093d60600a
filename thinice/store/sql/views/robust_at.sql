-- Robust accuracy of everything measured, at any budget: from robust_at(8/255).
create or replace macro robust_at(radius) as table
with counted as (
    select
        measurement_id,
        count(*) as n,
        count(*) filter (where clean_prediction is not null and (epsilon is null or epsilon > radius::real)) as robust,
        count(*) filter (where outcome = 'not_found' and clean_prediction is not null) as not_found
    from epsilons
    group by measurement_id
)
select
    c.measurement_id,
    k.name as checkpoint,
    k.sparsity,
    d.name as data,
    a.norm,
    a.name as attack,
    radius as budget,
    c.n,
    c.robust / c.n as robust_accuracy,
    wilson_low(c.robust, c.n) as low,
    wilson_high(c.robust, c.n) as high,
    c.not_found
from counted c
join measurements m using (measurement_id)
join checkpoints k on k.checkpoint_id = m.checkpoint_id
join datasets d on d.dataset_id = m.dataset_id
join attacks a on a.attack_id = m.attack_id
order by c.measurement_id;
comment on macro table robust_at is 'Robust accuracy at any budget from epsilons, with Wilson intervals: from robust_at(8/255).';
