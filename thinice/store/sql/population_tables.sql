-- A table that came after the first version: made where a store lacks it.

create table if not exists populations (
    population text not null,
    role text not null,
    checkpoint_id integer not null,
    dataset_id integer not null,
    attack_id integer not null,
    run_id integer not null,
    primary key (population, role, checkpoint_id),
    check (role in ('dense', 'pruned'))
);
comment on table populations is 'Several dense and several pruned networks that were compared as groups: one row a network. Predictions are in predictions; epsilons of the dense ones in epsilons, under their measurements.';
comment on column populations.population is 'Key of the comparison: a hash of all that belongs to it.';
comment on column populations.role is 'dense or pruned.';
comment on column populations.checkpoint_id is 'The network: checkpoints.checkpoint_id.';
comment on column populations.dataset_id is 'Selection of samples: datasets.dataset_id.';
comment on column populations.attack_id is 'Attack that found the epsilons: attacks.attack_id.';
comment on column populations.run_id is 'Run that compared them first.';
