-- What studies asked for: made where a store lacks it.

create table if not exists study_cells (
    study text not null,
    cell text not null,
    setup text not null,
    architecture text not null,
    data text not null,
    training text not null,
    method text,
    rate double not null,
    seed bigint not null,
    attack text not null,
    norm norm not null,
    budget double not null,
    checkpoint_id integer,
    dataset_id integer,
    measurement_id integer,
    error text,
    run_id integer not null,
    updated timestamp not null,
    primary key (study, cell)
);
comment on table study_cells is 'What the studies of this store asked for, and where the answers are: one row for each network, attack and budget of a study.';
comment on column study_cells.study is 'Name of the study.';
comment on column study_cells.cell is 'Hash of all that decides the result: how the network is made, the samples, the attack, the budget.';
comment on column study_cells.setup is 'Which part of the study: architecture, data and training together.';
comment on column study_cells.architecture is 'Name of the architecture.';
comment on column study_cells.data is 'Data set.';
comment on column study_cells.training is 'Recipe by which the dense network was trained, with what was changed of it.';
comment on column study_cells.method is 'How it was pruned; NULL for the dense network, which the methods share.';
comment on column study_cells.rate is 'Compression rate that was asked for: 8 keeps one weight of eight; 1 is the dense network.';
comment on column study_cells.seed is 'Seed of weights, training and pruning.';
comment on column study_cells.attack is 'Attack that decides which samples are robust.';
comment on column study_cells.norm is 'Norm of the budget.';
comment on column study_cells.budget is 'Radius on the [0, 1] scale; in l0 a number of values.';
comment on column study_cells.checkpoint_id is 'Network: checkpoints.checkpoint_id; NULL where it could not be made.';
comment on column study_cells.dataset_id is 'Samples: datasets.dataset_id; NULL where there is an error.';
comment on column study_cells.measurement_id is 'Measurement: measurements.measurement_id, of epsilons or of verdicts at the budget; NULL where there is an error.';
comment on column study_cells.error is 'Why there is no answer; NULL where there is one.';
comment on column study_cells.run_id is 'Run that wrote this row.';
comment on column study_cells.updated is 'When, UTC.';
