-- What the honest-evaluation checks saw: of the network, and of the attack on it.

create table findings (
    measurement_id integer not null,
    indicator text not null,
    raised boolean not null,
    sample_ids bigint[] not null,
    looked_at bigint not null,
    value double,
    seen text not null,
    advice text not null,
    run_id integer not null,
    primary key (measurement_id, indicator),
    check (len(sample_ids) <= looked_at)
);
comment on table findings is 'Signs that a measurement cannot be trusted: one row a check, raised or not. AutoAttack''s checks and the indicators of attack failure.';
comment on column findings.measurement_id is 'Measurement: measurements.measurement_id; the network and the attack that were checked.';
comment on column findings.indicator is 'Name of the check: softmax_output, zero_gradients, silent_success, …';
comment on column findings.raised is 'Whether it was seen on more samples than is normal.';
comment on column findings.sample_ids is 'Samples on which it was seen.';
comment on column findings.looked_at is 'Samples that were looked at: a few are enough.';
comment on column findings.value is 'Mean of the indicator over them; NULL where it is a flag.';
comment on column findings.seen is 'What it means where it is seen.';
comment on column findings.advice is 'What to do about it.';
comment on column findings.run_id is 'Run that checked.';

create view warnings as
select
    f.measurement_id,
    k.name as checkpoint,
    d.name as data,
    a.norm,
    a.name as attack,
    f.indicator,
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
comment on column warnings.indicator is 'Name of the check.';
comment on column warnings.samples is 'On how many samples it was seen.';
comment on column warnings.looked_at is 'Of how many.';
comment on column warnings.seen is 'What it means.';
comment on column warnings.advice is 'What to do about it.';
