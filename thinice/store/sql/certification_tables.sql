-- Bounds from below: made where a store lacks them.

create table if not exists lower_bounds (
    checkpoint_id integer not null,
    dataset_id integer not null,
    norm norm not null,
    sample_id bigint not null,
    epsilon_lower double not null,
    adopted boolean not null,
    run_id integer not null,
    primary key (checkpoint_id, dataset_id, norm, sample_id),
    check (epsilon_lower >= 0 and isfinite(epsilon_lower))
);
comment on table lower_bounds is 'Radii that were proved: no input of the box [0, 1] that lies within one of a sample is given another class than its label. Whatever attack found an epsilon, it is not smaller.';
comment on column lower_bounds.checkpoint_id is 'Network: checkpoints.checkpoint_id.';
comment on column lower_bounds.dataset_id is 'Selection of samples: datasets.dataset_id.';
comment on column lower_bounds.norm is 'Norm of the radius.';
comment on column lower_bounds.sample_id is 'Sample: samples.sample_id.';
comment on column lower_bounds.epsilon_lower is 'The proved radius, on the [0, 1] scale; 0 where nothing was proved, and where the clean sample is misclassified.';
comment on column lower_bounds.adopted is 'Whether it was copied from another selection of the same samples instead of proved anew.';
comment on column lower_bounds.run_id is 'Run that proved it.';

create table if not exists claimed_bounds (
    checkpoint_id integer not null,
    dataset_id integer not null,
    norm norm not null,
    sample_id bigint not null,
    verifier text not null,
    claimed_lower double not null,
    claimed_upper double,
    seconds double,
    source text not null,
    run_id integer not null,
    primary key (checkpoint_id, dataset_id, norm, sample_id, verifier),
    check (claimed_lower >= 0 and isfinite(claimed_lower)),
    check (claimed_upper >= 0 and isfinite(claimed_upper))
);
comment on table claimed_bounds is 'What other programs say of the distance to the boundary: shown beside what thinice found and proved, and refuted by it, never trusted.';
comment on column claimed_bounds.checkpoint_id is 'Network that the claim is said to be about: checkpoints.checkpoint_id.';
comment on column claimed_bounds.dataset_id is 'Selection of samples: datasets.dataset_id.';
comment on column claimed_bounds.norm is 'Norm of the radii.';
comment on column claimed_bounds.sample_id is 'Sample: samples.sample_id.';
comment on column claimed_bounds.verifier is 'Program that claims it.';
comment on column claimed_bounds.claimed_lower is 'Radius within which there shall be no adversarial, on the [0, 1] scale; 0: none is claimed.';
comment on column claimed_bounds.claimed_upper is 'Radius within which there shall be one, or the largest that was tried; NULL where the file has none.';
comment on column claimed_bounds.seconds is 'What it took; NULL where the file does not say.';
comment on column claimed_bounds.source is 'File that it was read from.';
comment on column claimed_bounds.run_id is 'Run that read it.';
