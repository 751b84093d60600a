-- Verified adversarials within the budget that other measurements of the same network found on the same samples,
-- also those whose norm bounds the wanted one; of several, the nearest. Epsilons are float32, and so is the budget
-- where they are compared with it.
insert into robustness by name
with here as (
    select m.checkpoint_id, s.sample_id, s.label, s.digest
    from measurements m
    join samples s using (dataset_id)
    where m.measurement_id = $measurement_id
),
proofs as (
    select m.checkpoint_id, m.dataset_id, e.sample_id, e.outcome, e.epsilon, e.prediction, e.run_id,
        a.norm, a.name as attack
    from epsilons e
    join measurements m using (measurement_id)
    join attacks a using (attack_id)
    where m.measurement_id <> $measurement_id
    union all
    select m.checkpoint_id, m.dataset_id, r.sample_id, r.outcome, r.epsilon, r.prediction, r.run_id,
        a.norm, r.attack
    from robustness r
    join measurements m using (measurement_id)
    join attacks a using (attack_id)
    where m.measurement_id <> $measurement_id and not r.known_broken
)
select
    $measurement_id as measurement_id,
    h.sample_id,
    p.attack,
    (-1)::tinyint as attack_index,
    p.outcome,
    p.epsilon,
    p.prediction,
    null as clean_prediction,
    0 as evaluations,
    true as known_broken,
    false as adopted,
    p.run_id
from here h
join proofs p on p.checkpoint_id = h.checkpoint_id and p.sample_id = h.sample_id
join samples s on s.dataset_id = p.dataset_id and s.sample_id = p.sample_id
    and s.label = h.label and s.digest = h.digest
where p.outcome = 'found' and p.epsilon <= $budget::real and p.norm in (select unnest($norms::text[])::norm)
    -- what this attack broke itself needs no other proof
    and h.sample_id not in (
        select sample_id from robustness
        where measurement_id = $measurement_id and not known_broken and (outcome <> 'not_found' or clean_prediction is null)
    )
qualify row_number() over (partition by h.sample_id order by p.epsilon, p.attack) = 1
on conflict do nothing
