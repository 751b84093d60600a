-- Every verdict of an attack: an epsilon, or robust or not at a budget; and every radius that was proved, or is claimed
-- by another program, under a number below 0. A sample_id that stands for different contents in different selections
-- counts as different samples.
with wanted as (
    from measurements
    where $measurement_id is null
        or checkpoint_id = (select checkpoint_id from measurements where measurement_id = $measurement_id)
),
said as (
    select measurement_id, sample_id, epsilon::double as epsilon, null::double as budget, null::boolean as robust
    from epsilons
    where sample_id between $first and $last
    union all
    select measurement_id, sample_id, epsilon::double, budget, robust_to_this_attack
    from verdicts
    where robust_to_this_attack is not null and sample_id between $first and $last
),
bounded as (
    select checkpoint_id, dataset_id, norm, sample_id, 'lower bounds' as name, epsilon_lower as radius
    from lower_bounds
    union all
    select checkpoint_id, dataset_id, norm, sample_id, 'claims of ' || verifier, claimed_lower
    from claimed_bounds
),
together as (
    select m.checkpoint_id, m.dataset_id, m.attack_id, said.*, null::double as radius
    from said join wanted m using (measurement_id)
    union all by name
    select checkpoint_id, dataset_id, -dense_rank() over (order by name, norm) as attack_id, sample_id, radius, 0 as measurement_id
    from bounded
)
select
    t.checkpoint_id, t.dataset_id, t.attack_id, t.sample_id, t.epsilon, t.budget, t.robust, t.radius,
    dense_rank() over (partition by d.name, d.split, t.sample_id order by s.digest) as variant
from together t
join datasets d using (dataset_id)
join samples s on s.dataset_id = t.dataset_id and s.sample_id = t.sample_id
where t.sample_id between $first and $last and t.checkpoint_id in (select checkpoint_id from wanted)
qualify row_number() over (
    partition by t.checkpoint_id, d.name, d.split, t.attack_id, s.digest, t.sample_id order by t.measurement_id, t.dataset_id
) = 1
order by t.attack_id desc, t.sample_id
