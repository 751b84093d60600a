-- What another store, attached as part, knows of samples; what is there already stays. Keys are matched by what they
-- stand for: networks, selections and attacks by their fingerprints, runs by their process and when it began.
insert into runs by name
select p.* exclude (run_id) from part.runs p
where not exists (from runs r where r.host = p.host and r.pid = p.pid and r.started = p.started);

update runs set seen = p.seen, ended = p.ended, outcome = p.outcome::text::run_outcome, error = p.error
from part.runs p
where runs.host = p.host and runs.pid = p.pid and runs.started = p.started and runs.seen < p.seen;

create or replace temp table part_runs as
select p.run_id as theirs, r.run_id as ours
from part.runs p join runs r on r.host = p.host and r.pid = p.pid and r.started = p.started;

insert into checkpoints by name
select p.* exclude (checkpoint_id) replace (m.ours as run_id)
from part.checkpoints p join part_runs m on m.theirs = p.run_id
where not exists (from checkpoints c where c.fingerprint = p.fingerprint)
order by p.checkpoint_id;

insert into datasets by name
select p.* exclude (dataset_id) replace (m.ours as run_id)
from part.datasets p join part_runs m on m.theirs = p.run_id
where not exists (from datasets d where d.fingerprint = p.fingerprint)
order by p.dataset_id;

insert into attacks by name
select p.* exclude (attack_id) replace (m.ours as run_id, p.norm::text::norm as norm)
from part.attacks p join part_runs m on m.theirs = p.run_id
where not exists (from attacks a where a.fingerprint = p.fingerprint)
order by p.attack_id;

create or replace temp table part_checkpoints as
select p.checkpoint_id as theirs, c.checkpoint_id as ours
from part.checkpoints p join checkpoints c on c.fingerprint = p.fingerprint;

create or replace temp table part_datasets as
select p.dataset_id as theirs, d.dataset_id as ours
from part.datasets p join datasets d on d.fingerprint = p.fingerprint;

create or replace temp table part_attacks as
select p.attack_id as theirs, a.attack_id as ours
from part.attacks p join attacks a on a.fingerprint = p.fingerprint;

insert into run_conditions by name
select p.* replace (m.ours as run_id, d.ours as dataset_id)
from part.run_conditions p
join part_runs m on m.theirs = p.run_id
join part_datasets d on d.theirs = p.dataset_id
on conflict do nothing;

insert into run_networks by name
select p.* replace (m.ours as run_id, c.ours as checkpoint_id)
from part.run_networks p
join part_runs m on m.theirs = p.run_id
join part_checkpoints c on c.theirs = p.checkpoint_id
on conflict do nothing;

insert into samples by name
select p.* replace (d.ours as dataset_id)
from part.samples p join part_datasets d on d.theirs = p.dataset_id
on conflict do nothing;

insert into measurements by name
select c.ours as checkpoint_id, d.ours as dataset_id, a.ours as attack_id, m.ours as run_id, p.created
from part.measurements p
join part_runs m on m.theirs = p.run_id
join part_checkpoints c on c.theirs = p.checkpoint_id
join part_datasets d on d.theirs = p.dataset_id
join part_attacks a on a.theirs = p.attack_id
where not exists (
    from measurements n where n.checkpoint_id = c.ours and n.dataset_id = d.ours and n.attack_id = a.ours
)
order by p.measurement_id;

create or replace temp table part_measurements as
select p.measurement_id as theirs, n.measurement_id as ours
from part.measurements p
join part_checkpoints c on c.theirs = p.checkpoint_id
join part_datasets d on d.theirs = p.dataset_id
join part_attacks a on a.theirs = p.attack_id
join measurements n on n.checkpoint_id = c.ours and n.dataset_id = d.ours and n.attack_id = a.ours;

insert into predictions by name
select p.* replace (c.ours as checkpoint_id, d.ours as dataset_id, m.ours as run_id)
from part.predictions p
join part_checkpoints c on c.theirs = p.checkpoint_id
join part_datasets d on d.theirs = p.dataset_id
join part_runs m on m.theirs = p.run_id
on conflict do nothing;

insert into gradients by name
select p.* replace (c.ours as checkpoint_id, d.ours as dataset_id, m.ours as run_id)
from part.gradients p
join part_checkpoints c on c.theirs = p.checkpoint_id
join part_datasets d on d.theirs = p.dataset_id
join part_runs m on m.theirs = p.run_id
on conflict do nothing;

insert into lower_bounds by name
select p.* replace (c.ours as checkpoint_id, d.ours as dataset_id, m.ours as run_id, p.norm::text::norm as norm)
from part.lower_bounds p
join part_checkpoints c on c.theirs = p.checkpoint_id
join part_datasets d on d.theirs = p.dataset_id
join part_runs m on m.theirs = p.run_id
on conflict do nothing;

-- an epsilon and the adversarial that proves it come from the same store
insert into adversarials by name
select p.* replace (n.ours as measurement_id)
from part.adversarials p
join part_measurements n on n.theirs = p.measurement_id
where not exists (from epsilons e where e.measurement_id = n.ours and e.sample_id = p.sample_id)
on conflict do nothing;

insert into epsilons by name
select p.* replace (
    n.ours as measurement_id,
    m.ours as run_id,
    p.outcome::text::outcome as outcome,
    p.found_by::text::found_by as found_by,
    p.failure_reason::text::failure_reason as failure_reason
)
from part.epsilons p
join part_measurements n on n.theirs = p.measurement_id
join part_runs m on m.theirs = p.run_id
on conflict do nothing;

insert into robustness by name
select p.* replace (n.ours as measurement_id, m.ours as run_id, p.outcome::text::outcome as outcome)
from part.robustness p
join part_measurements n on n.theirs = p.measurement_id
join part_runs m on m.theirs = p.run_id
where not exists (
    from robustness r join runs using (run_id)
    where r.measurement_id = n.ours and r.sample_id = p.sample_id and r.run_id <> m.ours
)
on conflict do nothing;

insert into corrections by name
select p.* replace (
    n.ours as measurement_id,
    m.ours as run_id,
    p.found_by::text::found_by as found_by,
    p.failure_reason::text::failure_reason as failure_reason
)
from part.corrections p
join part_measurements n on n.theirs = p.measurement_id
join part_runs m on m.theirs = p.run_id
on conflict do nothing;
