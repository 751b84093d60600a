-- Every verdict of an attack: an epsilon, or robust or not at a budget; a sample_id that stands for different contents
-- in different selections counts as different samples.
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
)
select
    m.checkpoint_id, m.dataset_id, m.attack_id, said.sample_id, said.epsilon, said.budget, said.robust,
    dense_rank() over (partition by d.name, d.split, said.sample_id order by s.digest) as variant
from said
join wanted m using (measurement_id)
join datasets d using (dataset_id)
join samples s on s.dataset_id = m.dataset_id and s.sample_id = said.sample_id
qualify row_number() over (
    partition by m.checkpoint_id, d.name, d.split, m.attack_id, s.digest, said.sample_id order by m.measurement_id
) = 1
order by m.attack_id, said.sample_id
