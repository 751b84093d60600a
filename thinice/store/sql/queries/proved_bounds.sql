-- What was proved of the samples of a measurement, in its norm.
select b.sample_id, b.epsilon_lower
from measurements m
join attacks a using (attack_id)
join lower_bounds b on b.checkpoint_id = m.checkpoint_id and b.dataset_id = m.dataset_id and b.norm = a.norm
where m.measurement_id = $measurement_id
order by b.sample_id
