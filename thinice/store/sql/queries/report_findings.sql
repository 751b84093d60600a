-- What the checks saw of both networks of a comparison, raised or not; the dense one's first.
select
    k.name as network, d.name as data, d.n, a.name as attack, a.norm, f.check_name, f.raised,
    len(f.sample_ids) as samples, f.looked_at, f.seen, f.advice
from findings f
join measurements m using (measurement_id)
join checkpoints k on k.checkpoint_id = m.checkpoint_id
join datasets d on d.dataset_id = m.dataset_id
join attacks a on a.attack_id = m.attack_id
where m.checkpoint_id in ($dense, $pruned)
order by m.checkpoint_id <> $dense, measurement_id, not raised, check_name
