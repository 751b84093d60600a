-- Samples with an epsilon below what was proved, which cannot be: the first of them, and how many there are.
select e.sample_id, e.epsilon::double as epsilon, b.epsilon_lower, k.name as checkpoint, a.name as attack, count(*) over () as samples
from lower_bounds b
join measurements m using (checkpoint_id, dataset_id)
join attacks a on a.attack_id = m.attack_id and a.norm = b.norm
join epsilons e on e.measurement_id = m.measurement_id and e.sample_id = b.sample_id
join checkpoints k on k.checkpoint_id = m.checkpoint_id
where e.epsilon < b.epsilon_lower
    and coalesce(m.measurement_id = $measurement_id, m.checkpoint_id = $checkpoint_id and m.dataset_id = $dataset_id)
order by e.epsilon / b.epsilon_lower, e.sample_id
limit 1
