-- How many samples the measurements of this store have, all in all and by the shard that their run measured.
select
    m.measurement_id,
    c.name as network,
    a.norm::text as norm,
    a.name as attack,
    d.n as wanted,
    r.settings->>'shard' as shard,
    any_value((r.settings->>'shard_samples')::bigint) as shard_samples,
    count(*) as measured
from epsilons e
join measurements m using (measurement_id)
join checkpoints c on c.checkpoint_id = m.checkpoint_id
join datasets d on d.dataset_id = m.dataset_id
join attacks a on a.attack_id = m.attack_id
join runs r on r.run_id = e.run_id
group by all
order by m.measurement_id
