-- A table that came after the first version: made where a store lacks it.

create table if not exists controls (
    comparison_id integer not null,
    network integer not null,
    checkpoint_id integer not null,
    scale double,
    seed bigint,
    run_id integer not null,
    primary key (comparison_id, network)
);
comment on table controls is 'Control networks of a comparison: other changes of the dense network, beside pruning. Their predictions are in predictions, under the selection of the comparison''s measurement.';
comment on column controls.comparison_id is 'Comparison: comparisons.comparison_id.';
comment on column controls.network is 'Number of the control network, counted from 0.';
comment on column controls.checkpoint_id is 'The network: checkpoints.checkpoint_id.';
comment on column controls.scale is 'Standard deviation of the weight noise in units of the root mean square of each layer''s weights; NULL for a network that was given.';
comment on column controls.seed is 'Seed of the noise; NULL for a network that was given.';
comment on column controls.run_id is 'Run that compared it.';
