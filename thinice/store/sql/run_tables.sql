-- What a run ran on, for repeating it: tables that came after the first version, made where a store lacks them.

create table if not exists run_conditions (
    run_id integer primary key,
    dataset_id integer not null,
    folder text,
    engine text not null,
    workers integer,
    threads integer not null,
    batch_size integer,
    deterministic boolean not null
);
comment on table run_conditions is 'What a run ran on, beside what runs says: one row a run that measures. A run of an earlier thinice has none.';
comment on column run_conditions.run_id is 'Run: runs.run_id.';
comment on column run_conditions.dataset_id is 'Selection of samples: datasets.dataset_id.';
comment on column run_conditions.folder is 'Working folder, from which the paths of the command count; NULL where it was gone.';
comment on column run_conditions.engine is 'Engine: local, processes, or the class of one of the caller''s own.';
comment on column run_conditions.workers is 'Processes that computed; NULL where the engine decided.';
comment on column run_conditions.threads is 'Threads of the CPU in the process that was started; workers share them.';
comment on column run_conditions.batch_size is 'Samples of the first batch; smaller ones follow where memory runs out. NULL where the engine decided.';
comment on column run_conditions.deterministic is 'Whether torch was held to operations that give the same bits each time.';

create table if not exists run_networks (
    run_id integer not null,
    network integer not null,
    checkpoint_id integer not null,
    name text not null,
    path text,
    primary key (run_id, network)
);
comment on table run_networks is 'The networks that a run was given, in their order, also where everything of them was in the store.';
comment on column run_networks.run_id is 'Run: runs.run_id.';
comment on column run_networks.network is 'Number of the network, counted from 0.';
comment on column run_networks.checkpoint_id is 'The network: checkpoints.checkpoint_id.';
comment on column run_networks.name is 'What it was called in this run.';
comment on column run_networks.path is 'File that this run read it from; NULL for a network made in Python.';
