-- Comparisons that have samples.
select c.*, m.checkpoint_id, m.dataset_id, m.attack_id
from comparisons c join measurements m using (measurement_id)
where comparison_id in (select comparison_id from transitions)
order by comparison_id
