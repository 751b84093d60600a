-- What the benchmark of pruned networks keeps: made where a store lacks it.

create table if not exists tunings (
    fingerprint text primary key,
    checkpoint text not null,
    samples text not null,
    attack text not null,
    norm norm not null,
    asked json not null,
    settings json not null,
    "median" double,
    default_median double,
    n bigint not null,
    run_id integer not null,
    created timestamp not null
);
comment on table tunings is 'Settings of attacks that were searched for on other samples: one row for each network, selection to tune on, and search. Asked for again, they are read.';
comment on column tunings.fingerprint is 'Hash of all that decides the result.';
comment on column tunings.checkpoint is 'Network: checkpoints.fingerprint.';
comment on column tunings.samples is 'Fingerprint of the selection that was tuned on.';
comment on column tunings.attack is 'Name of the attack.';
comment on column tunings.norm is 'Norm that it minimises.';
comment on column tunings.asked is 'What was searched: its arguments, the seed and the version of the attack, as a JSON object.';
comment on column tunings.settings is 'Settings of the best trial, as a JSON object.';
comment on column tunings."median" is 'Median epsilon that they reach on the samples tuned on; NULL where fewer than half were found.';
comment on column tunings.default_median is 'The same of the settings that were tried first, the default ones.';
comment on column tunings.n is 'Samples tuned on.';
comment on column tunings.run_id is 'Run that tuned.';
comment on column tunings.created is 'When, UTC.';

create table if not exists published_accuracies (
    method text not null,
    architecture text not null,
    data text not null,
    structure text not null,
    sparsity integer not null,
    clean_accuracy double not null,
    robust_accuracy double not null,
    n bigint not null,
    budget double not null,
    source text not null,
    run_id integer not null,
    primary key (method, architecture, data, structure, sparsity)
);
comment on table published_accuracies is 'The published leaderboards of adversarial pruning, as facts; written by the first benchmark of a store.';
comment on column published_accuracies.method is 'Key of the method: HYDRA_Sehwag2020Hydra.';
comment on column published_accuracies.architecture is 'R18: ResNet-18; V16: VGG-16.';
comment on column published_accuracies.data is 'CIFAR10 or SVHN.';
comment on column published_accuracies.structure is 'US: single weights; S: filters or channels.';
comment on column published_accuracies.sparsity is 'Percent of the weights that are zero.';
comment on column published_accuracies.clean_accuracy is 'Share of the test images that the network has right.';
comment on column published_accuracies.robust_accuracy is 'Share that AutoAttack does not break.';
comment on column published_accuracies.n is 'Test images.';
comment on column published_accuracies.budget is 'Radius in linf on the [0, 1] scale.';
comment on column published_accuracies.source is 'Who says so.';
comment on column published_accuracies.run_id is 'Run that wrote it here.';

create table if not exists benchmark_networks (
    checkpoint_id integer not null,
    dense_checkpoint_id integer not null,
    dataset_id integer not null,
    protocol json not null,
    method text,
    entry json,
    model_key text,
    structure text not null,
    removed_share double not null,
    layers json not null,
    comparison_id integer not null,
    robust_comparison_id integer not null,
    autoattack_id integer not null,
    ho_fmn_id integer not null,
    run_id integer not null,
    updated timestamp not null,
    primary key (checkpoint_id, dense_checkpoint_id, dataset_id, protocol)
);
comment on table benchmark_networks is 'Pruned networks that went through the benchmark, and where its parts are: one row for each network, dense network, selection and protocol.';
comment on column benchmark_networks.checkpoint_id is 'The pruned network: checkpoints.checkpoint_id.';
comment on column benchmark_networks.dense_checkpoint_id is 'The network it was pruned from: checkpoints.checkpoint_id.';
comment on column benchmark_networks.dataset_id is 'Samples: datasets.dataset_id.';
comment on column benchmark_networks.protocol is 'Budget, attacks, and the end of the curve, as a JSON object.';
comment on column benchmark_networks.method is 'Key of the method; NULL where none was given.';
comment on column benchmark_networks.entry is 'The method in the taxonomy, as a JSON object; NULL where none was given.';
comment on column benchmark_networks.model_key is 'Key of the network: method or name, and the category in which it is ranked; NULL where the leaderboards have no such category.';
comment on column benchmark_networks.structure is 'US: single weights are zero; S: whole filters or channels are.';
comment on column benchmark_networks.removed_share is 'Share of the dense network''s prunable weights that are zero or gone.';
comment on column benchmark_networks.layers is 'Sparsity of each layer, by the name of its weight, as a JSON object.';
comment on column benchmark_networks.comparison_id is 'Comparison with the dense network on clean samples: comparisons.comparison_id.';
comment on column benchmark_networks.robust_comparison_id is 'Comparison of which samples are robust: comparisons.comparison_id.';
comment on column benchmark_networks.autoattack_id is 'Measurement of the attack at the budget: measurements.measurement_id.';
comment on column benchmark_networks.ho_fmn_id is 'Measurement of HO-FMN: measurements.measurement_id.';
comment on column benchmark_networks.run_id is 'Run that wrote this row.';
comment on column benchmark_networks.updated is 'When, UTC.';

create table if not exists imported_distances (
    model_key text not null,
    split text not null,
    sample_id bigint not null,
    distance double not null,
    source text not null,
    digest text not null,
    run_id integer not null,
    primary key (model_key, sample_id)
);
comment on table imported_distances is 'Distances of a distance file of the public benchmark: claims of its authors, which nothing here has verified.';
comment on column imported_distances.model_key is 'Key of the network.';
comment on column imported_distances.split is 'Part of the data set of the key.';
comment on column imported_distances.sample_id is 'Index in the untouched data set, as whoever imported the file stated.';
comment on column imported_distances.distance is 'Distance in linf on the [0, 1] scale; 0 where the sample is misclassified or, in files of the public benchmark, where the attack found nothing; infinite where it is said that nothing was found.';
comment on column imported_distances.source is 'File that it was read from.';
comment on column imported_distances.digest is 'SHA-256 of that file.';
comment on column imported_distances.run_id is 'Run that imported it.';
