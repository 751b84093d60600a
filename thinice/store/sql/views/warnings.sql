create view warnings as
select
    f.measurement_id,
    k.name as checkpoint,
    d.name as data,
    a.norm,
    a.name as attack,
    f.check_name,
    len(f.sample_ids) as samples,
    f.looked_at,
    f.seen,
    f.advice
from findings f
join measurements m using (measurement_id)
join checkpoints k on k.checkpoint_id = m.checkpoint_id
join datasets d on d.dataset_id = m.dataset_id
join attacks a on a.attack_id = m.attack_id
where f.raised;
comment on view warnings is 'Why a measurement cannot be trusted: one row a measurement and check that was raised.';
comment on column warnings.measurement_id is 'Measurement: measurements.measurement_id.';
comment on column warnings.checkpoint is 'Name of the network.';
comment on column warnings.data is 'Name of the data set.';
comment on column warnings.norm is 'Norm of the attack.';
comment on column warnings.attack is 'Attack that was watched.';
comment on column warnings.check_name is 'Name of the check.';
comment on column warnings.samples is 'On how many samples it was seen.';
comment on column warnings.looked_at is 'Of how many.';
comment on column warnings.seen is 'What it means.';
comment on column warnings.advice is 'What to do about it.';
