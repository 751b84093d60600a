-- Samples with an adversarial below what was proved, which cannot be: the first of them, and how many there are.
with reached as (
    select m.checkpoint_id, m.dataset_id, m.measurement_id, a.norm, a.name as attack, e.sample_id, e.epsilon
    from measurements m
    join attacks a using (attack_id)
    join epsilons e using (measurement_id)
    union all
    -- those of a dense network that fool a pruned one
    select c.pruned_checkpoint_id, m.dataset_id, m.measurement_id, a.norm, a.name || ' on ' || dense.name, e.sample_id, e.epsilon
    from transfers t
    join comparisons c using (comparison_id)
    join measurements m using (measurement_id)
    join attacks a using (attack_id)
    join checkpoints dense using (checkpoint_id)
    join samples s on s.dataset_id = m.dataset_id and s.sample_id = t.sample_id
    join epsilons e on e.measurement_id = m.measurement_id and e.sample_id = t.sample_id
    where t.prediction <> s.label and e.outcome = 'found'
)
select r.sample_id, r.epsilon::double as epsilon, b.epsilon_lower, k.name as checkpoint, r.attack, count(*) over () as samples
from lower_bounds b
join reached r using (checkpoint_id, dataset_id, norm, sample_id)
join checkpoints k using (checkpoint_id)
where r.epsilon < b.epsilon_lower
    and coalesce(r.measurement_id = $measurement_id, r.checkpoint_id = $checkpoint_id and r.dataset_id = $dataset_id)
order by r.epsilon / b.epsilon_lower, r.sample_id
limit 1
