-- Comparisons that have samples: without the view transitions, which would be made of all of them to be asked for one.
select c.*, m.checkpoint_id, m.dataset_id, m.attack_id
from comparisons c join measurements m using (measurement_id)
where exists (
    from epsilons e
    join predictions p on p.sample_id = e.sample_id
    where e.measurement_id = c.measurement_id
        and p.checkpoint_id = c.pruned_checkpoint_id
        and p.dataset_id = m.dataset_id
)
order by comparison_id
