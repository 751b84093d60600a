-- A table that came after the first version: made where a store lacks it.

create table if not exists gradients (
    checkpoint_id integer not null,
    dataset_id integer not null,
    sample_id bigint not null,
    gradient_norm double,
    run_id integer not null,
    primary key (checkpoint_id, dataset_id, sample_id)
);
comment on table gradients is 'How strongly the loss of a clean sample depends on the weights of a network, where that was asked for.';
comment on column gradients.checkpoint_id is 'Network: checkpoints.checkpoint_id.';
comment on column gradients.dataset_id is 'Selection of samples: datasets.dataset_id.';
comment on column gradients.sample_id is 'Sample: samples.sample_id.';
comment on column gradients.gradient_norm is 'l2 norm of the gradient of the sample''s cross-entropy in all weights; NULL where it is not finite.';
comment on column gradients.run_id is 'Run that computed it.';
