-- The networks of each population; of a dense one the measurement that holds its epsilons.
select g.population, g.role, g.checkpoint_id, k.name, g.dataset_id, g.attack_id, m.measurement_id
from populations g
join checkpoints k using (checkpoint_id)
join datasets d using (dataset_id)
join attacks a using (attack_id)
left join measurements m using (checkpoint_id, dataset_id, attack_id)
order by min(g.run_id) over (partition by g.population), g.population, g.role, g.checkpoint_id
