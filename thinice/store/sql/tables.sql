-- Facts are tables, answers are views (beside this file). Everything says what it is: `describe epsilons` should teach.

create table thinice_schema (
    version integer not null,
    definitions text not null,
    applied timestamp not null,
    thinice text not null
);
comment on table thinice_schema is 'The version of these tables and views: one row.';
comment on column thinice_schema.version is 'Version of the tables; a thinice that knows only lower ones leaves the store alone.';
comment on column thinice_schema.definitions is 'Hash of the views, which are made anew where it differs.';
comment on column thinice_schema.applied is 'When the views were made, UTC.';
comment on column thinice_schema.thinice is 'Version of thinice that made them.';

create type norm as enum ('l0', 'l1', 'l2', 'linf');
create type outcome as enum ('misclassified', 'found', 'not_found');
create type transition as enum ('S1,1', 'S1,0', 'S0,1', 'S0,0');
create type found_by as enum ('search', 'float64', 'losses', 'starts', 'random', 'dense');
create type failure_reason as enum ('zero_gradient', 'saturated', 'non_deterministic', 'non_finite');
create type run_outcome as enum ('running', 'finished', 'interrupted', 'failed', 'died');

create sequence run_ids;
create sequence checkpoint_ids;
create sequence dataset_ids;
create sequence attack_ids;
create sequence measurement_ids;
create sequence comparison_ids;

create table runs (
    run_id integer primary key default nextval('run_ids'),
    command text[] not null,
    versions json not null,
    device text not null,
    "precision" text not null,
    seed bigint,
    settings json not null,
    started timestamp not null,
    seen timestamp not null,
    ended timestamp,
    outcome run_outcome not null default 'running',
    error text,
    host text not null,
    pid integer not null,
    process_started text
);
comment on table runs is 'One row a run: the command that measured, with everything needed to repeat it. Every measured row leads here.';
comment on column runs.run_id is 'Key.';
comment on column runs.command is 'The command line, word by word.';
comment on column runs.versions is 'Versions of thinice, torch, DuckDB, Python and the platform, as a JSON object.';
comment on column runs.device is 'Where the networks ran: cpu, cuda:0.';
comment on column runs."precision" is 'Floating-point precision of the networks.';
comment on column runs.seed is 'Seed of all randomness; NULL where none was drawn.';
comment on column runs.settings is 'All settings of the command, as a JSON object.';
comment on column runs.started is 'Start, UTC.';
comment on column runs.seen is 'Last moment the run wrote to this store, UTC.';
comment on column runs.ended is 'End, UTC; NULL while it runs. For a run that died: when it was last seen.';
comment on column runs.outcome is 'running, finished, interrupted (Ctrl-C), failed (an error), died (the process is gone without a word).';
comment on column runs.error is 'What went wrong; NULL where nothing did.';
comment on column runs.host is 'Name of the machine.';
comment on column runs.pid is 'Process on that machine.';
comment on column runs.process_started is 'Start of the process in the system''s own clock, which tells it from a later one of the same pid; NULL where unknown.';

create table checkpoints (
    checkpoint_id integer primary key default nextval('checkpoint_ids'),
    fingerprint text not null unique,
    name text not null,
    path text,
    architecture text not null,
    classes integer not null,
    class_names text[],
    sparsity double not null,
    data text,
    normalization json,
    notes text[] not null,
    parent text,
    run_id integer not null,
    created timestamp not null
);
comment on table checkpoints is 'Networks: one row for each different set of weights.';
comment on column checkpoints.checkpoint_id is 'Key.';
comment on column checkpoints.fingerprint is 'Hash of architecture, weights and normalisation: the same network has the same fingerprint wherever its file lies.';
comment on column checkpoints.name is 'What people call it, as it was first seen.';
comment on column checkpoints.path is 'File it was first read from; NULL for a network made in Python.';
comment on column checkpoints.architecture is 'Name of the architecture.';
comment on column checkpoints.classes is 'Number of classes.';
comment on column checkpoints.class_names is 'Names of the classes in the order of the logits; NULL where the file does not say.';
comment on column checkpoints.sparsity is 'Fraction of prunable weights that are zero.';
comment on column checkpoints.data is 'Data set it was trained on; NULL where the file does not say.';
comment on column checkpoints.normalization is 'Mean and standard deviation of the inputs, inside the network, as a JSON list of two lists; NULL for none.';
comment on column checkpoints.notes is 'What was found out while loading, and where the file came from.';
comment on column checkpoints.parent is 'Fingerprint of the network it was pruned from; NULL where unknown.';
comment on column checkpoints.run_id is 'Run that saw it first.';
comment on column checkpoints.created is 'When it was first seen, UTC.';

create table datasets (
    dataset_id integer primary key default nextval('dataset_ids'),
    fingerprint text not null unique,
    name text not null,
    split text not null,
    n bigint not null,
    shape integer[] not null,
    classes text[] not null,
    run_id integer not null,
    created timestamp not null
);
comment on table datasets is 'Selections of samples: one row for each different selection that was measured.';
comment on column datasets.dataset_id is 'Key.';
comment on column datasets.fingerprint is 'Hash of the contents, labels and sample_ids: two runs with the same fingerprint saw the same samples.';
comment on column datasets.name is 'Name of the data set.';
comment on column datasets.split is 'Part of it: test, train.';
comment on column datasets.n is 'Number of samples selected.';
comment on column datasets.shape is 'Shape of one input: channels, height, width.';
comment on column datasets.classes is 'Names of the classes in the order of the labels.';
comment on column datasets.run_id is 'Run that saw it first.';
comment on column datasets.created is 'When it was first seen, UTC.';

create table samples (
    dataset_id integer not null,
    sample_id bigint not null,
    label integer not null,
    digest ubigint not null,
    source text,
    primary key (dataset_id, sample_id)
);
comment on table samples is 'The samples of each selection.';
comment on column samples.dataset_id is 'Selection: datasets.dataset_id.';
comment on column samples.sample_id is 'Index in the untouched data set.';
comment on column samples.label is 'True class, counted from 0.';
comment on column samples.digest is 'Hash of the sample''s content.';
comment on column samples.source is 'File of the sample, relative to the data set''s folder; NULL where there is none.';

create table attacks (
    attack_id integer primary key default nextval('attack_ids'),
    fingerprint text not null unique,
    name text not null,
    norm norm not null,
    settings json not null,
    run_id integer not null,
    created timestamp not null
);
comment on table attacks is 'Attacks with all settings that change their result: one row for each different combination.';
comment on column attacks.attack_id is 'Key.';
comment on column attacks.fingerprint is 'Hash of name, norm and settings.';
comment on column attacks.name is 'Name of the attack: fmn, foolbox:LInfFMNAttack.';
comment on column attacks.norm is 'Norm in which epsilon is measured.';
comment on column attacks.settings is 'Settings, as a JSON object.';
comment on column attacks.run_id is 'Run that used it first.';
comment on column attacks.created is 'When it was first used, UTC.';

create table measurements (
    measurement_id integer primary key default nextval('measurement_ids'),
    checkpoint_id integer not null,
    dataset_id integer not null,
    attack_id integer not null,
    run_id integer not null,
    created timestamp not null,
    unique (checkpoint_id, dataset_id, attack_id)
);
comment on table measurements is 'What was measured: a network, a selection of samples, an attack. Asked for again, it is read, not computed.';
comment on column measurements.measurement_id is 'Key.';
comment on column measurements.checkpoint_id is 'Network: checkpoints.checkpoint_id.';
comment on column measurements.dataset_id is 'Selection of samples: datasets.dataset_id.';
comment on column measurements.attack_id is 'Attack: attacks.attack_id.';
comment on column measurements.run_id is 'Run that began it; each epsilon says the run that measured it.';
comment on column measurements.created is 'When it was begun, UTC.';

create table predictions (
    checkpoint_id integer not null,
    dataset_id integer not null,
    sample_id bigint not null,
    prediction integer,
    margin real,
    confidence double,
    loss real,
    run_id integer not null,
    primary key (checkpoint_id, dataset_id, sample_id)
);
comment on table predictions is 'What networks make of clean samples: pruned ones, and dense ones in a comparison. A measured network has epsilons.clean_prediction too.';
comment on column predictions.checkpoint_id is 'Network: checkpoints.checkpoint_id.';
comment on column predictions.dataset_id is 'Selection of samples: datasets.dataset_id.';
comment on column predictions.sample_id is 'Sample: samples.sample_id.';
comment on column predictions.prediction is 'Predicted class; NULL where a logit is not a number, which counts as wrong.';
comment on column predictions.margin is 'Logit of the true class minus the best other logit, negative when misclassified; NULL where it was not recorded.';
comment on column predictions.confidence is 'Largest probability of the softmax, 0 to 1; NULL where it was not recorded.';
comment on column predictions.loss is 'Cross-entropy of the true class in nats, at least 0; NULL where it was not recorded.';
comment on column predictions.run_id is 'Run that predicted it.';

create table epsilons (
    measurement_id integer not null,
    sample_id bigint not null,
    outcome outcome not null,
    epsilon real,
    prediction integer,
    clean_prediction integer,
    evaluations real not null,
    converged boolean not null,
    found_by found_by,
    failure_reason failure_reason,
    adopted boolean not null,
    run_id integer not null,
    primary key (measurement_id, sample_id),
    check ((outcome = 'not_found') = (epsilon is null)),
    check (outcome <> 'misclassified' or epsilon = 0),
    check (epsilon >= 0 and isfinite(epsilon))
);
comment on table epsilons is 'The distance to the decision boundary that was found for each sample: an upper bound on the true one.';
comment on column epsilons.measurement_id is 'Measurement: measurements.measurement_id.';
comment on column epsilons.sample_id is 'Sample: samples.sample_id.';
comment on column epsilons.outcome is 'misclassified: the clean sample is wrong already; found: epsilon is the norm of a verified adversarial; not_found: epsilon is unknown.';
comment on column epsilons.epsilon is 'Smallest norm of a perturbation found that changes the prediction, on the [0, 1] scale; 0 where misclassified, NULL where not found.';
comment on column epsilons.prediction is 'Class on the far side of the boundary; NULL where not found.';
comment on column epsilons.clean_prediction is 'Class of the clean sample in the same measurement; NULL where a logit is not a number, which counts as wrong.';
comment on column epsilons.evaluations is 'Forward-backward passes spent on the sample; a forward pass alone counts a third.';
comment on column epsilons.converged is 'Whether the search had converged before it stopped; false where the attack does not say.';
comment on column epsilons.found_by is 'What found the adversarial: the search, or a fall-back (float64, losses, starts, random); NULL where misclassified or not found.';
comment on column epsilons.failure_reason is 'Why the search itself came back empty, also where a fall-back then found; NULL where it did not, or for no reason that shows.';
comment on column epsilons.adopted is 'Whether it was copied from another selection of the same samples instead of measured anew.';
comment on column epsilons.run_id is 'Run that measured it.';

create table adversarials (
    measurement_id integer not null,
    sample_id bigint not null,
    adversarial blob using compression uncompressed not null,
    primary key (measurement_id, sample_id)
);
comment on table adversarials is 'Adversarial inputs that prove an epsilon, for the samples where one was kept.';
comment on column adversarials.measurement_id is 'Measurement: measurements.measurement_id.';
comment on column adversarials.sample_id is 'Sample: samples.sample_id.';
comment on column adversarials.adversarial is 'The input in [0, 1] as float32, little endian, in C order; its shape is datasets.shape.';

create table robustness (
    measurement_id integer not null,
    sample_id bigint not null,
    attack text not null,
    attack_index tinyint not null,
    outcome outcome not null,
    epsilon real,
    prediction integer,
    clean_prediction integer,
    evaluations real not null,
    known_broken boolean not null,
    adopted boolean not null,
    run_id integer not null,
    primary key (measurement_id, sample_id, attack_index),
    check ((outcome = 'not_found') = (epsilon is null)),
    check (outcome <> 'misclassified' or epsilon = 0),
    check (epsilon >= 0 and isfinite(epsilon)),
    check (not known_broken or outcome = 'found')
);
comment on table robustness is 'What an attack at a budget did to a sample: one row for each attack of the ensemble that tried the sample. A sample that has fallen is not tried again.';
comment on column robustness.measurement_id is 'Measurement: measurements.measurement_id; the settings of its attack hold the budget and the attacks of the ensemble.';
comment on column robustness.sample_id is 'Sample: samples.sample_id.';
comment on column robustness.attack is 'The attack that tried: apgd-ce, square, pgd; where known_broken: the attack whose adversarial was in the store.';
comment on column robustness.attack_index is 'Which attack of the ensemble, counted from 0; -1 where known_broken.';
comment on column robustness.outcome is 'misclassified: the clean sample is wrong already; found: a verified adversarial within the budget broke it; not_found: it is robust.';
comment on column robustness.epsilon is 'Norm of that adversarial, at most the budget, seldom the smallest; 0 where misclassified, NULL where it stands.';
comment on column robustness.prediction is 'Class of the adversarial; NULL where it stands.';
comment on column robustness.clean_prediction is 'Class of the clean sample; NULL where a logit is not a number, which counts as wrong, or where known_broken.';
comment on column robustness.evaluations is 'Forward-backward passes that this attack spent on the sample; a forward pass alone counts a third.';
comment on column robustness.known_broken is 'Whether another measurement in this store had found the adversarial, so that nothing was attacked.';
comment on column robustness.adopted is 'Whether it was copied from another selection of the same samples instead of tried anew.';
comment on column robustness.run_id is 'Run that tried it; where known_broken: the run that found the adversarial.';

create table comparisons (
    comparison_id integer primary key default nextval('comparison_ids'),
    measurement_id integer not null,
    pruned_checkpoint_id integer not null,
    basis text not null,
    budget double,
    dense_verdicts integer,
    pruned_verdicts integer,
    run_id integer not null,
    created timestamp not null,
    unique (measurement_id, pruned_checkpoint_id, basis)
);
comment on table comparisons is 'A pruned network held against a measured dense one.';
comment on column comparisons.comparison_id is 'Key.';
comment on column comparisons.measurement_id is 'Measurement of the dense network: measurements.measurement_id; names its samples and attack too.';
comment on column comparisons.pruned_checkpoint_id is 'Pruned network: checkpoints.checkpoint_id.';
comment on column comparisons.basis is 'What correct means: clean, the prediction on the clean sample; or robust at a budget, and by which attack.';
comment on column comparisons.budget is 'Budget of a robust basis, on the [0, 1] scale in the norm of the measurement; NULL where the basis is clean.';
comment on column comparisons.dense_verdicts is 'Measurement that says where the dense network is robust, by its epsilons or verdicts; NULL where the basis is clean.';
comment on column comparisons.pruned_verdicts is 'The same of the pruned network.';
comment on column comparisons.run_id is 'Run that compared them.';
comment on column comparisons.created is 'When they were first compared, UTC.';

-- A column for each statistic of thinice.stats.registry is added to this one.
create table statistics (
    comparison_id integer primary key,
    n_kept bigint not null,
    n_lost bigint not null,
    n_gained bigint not null,
    n_wrong bigint not null,
    not_found_kept bigint not null,
    not_found_lost bigint not null,
    notes text[] not null,
    run_id integer not null,
    created timestamp not null
);
comment on table statistics is 'What the epsilons of kept (S1,1) and lost (S1,0) samples say: one row a comparison. A number that cannot be had is NULL, and notes says why.';
comment on column statistics.comparison_id is 'Comparison: comparisons.comparison_id.';
comment on column statistics.n_kept is 'Samples correct under both networks (S1,1).';
comment on column statistics.n_lost is 'Samples that only the dense network classifies correctly (S1,0): lost by pruning.';
comment on column statistics.n_gained is 'Samples that only the pruned network classifies correctly (S0,1).';
comment on column statistics.n_wrong is 'Samples wrong under both networks (S0,0).';
comment on column statistics.not_found_kept is 'Kept samples whose epsilon is unknown: ranked as the farthest, all tied.';
comment on column statistics.not_found_lost is 'Lost samples whose epsilon is unknown: ranked as the farthest, all tied.';
comment on column statistics.notes is 'Why a number is NULL.';
comment on column statistics.run_id is 'Run that computed them.';
comment on column statistics.created is 'When they were computed, UTC.';

create table transfers (
    comparison_id integer not null,
    sample_id bigint not null,
    prediction integer,
    run_id integer not null,
    primary key (comparison_id, sample_id)
);
comment on table transfers is 'What a pruned network makes of the adversarials of the dense one, where distances to both boundaries were asked for and the adversarials are kept.';
comment on column transfers.comparison_id is 'Comparison: comparisons.comparison_id.';
comment on column transfers.sample_id is 'Sample: samples.sample_id.';
comment on column transfers.prediction is 'Class that the pruned network gives the dense network''s adversarial; NULL where a logit is not a number.';
comment on column transfers.run_id is 'Run that asked it.';

create table findings (
    measurement_id integer not null,
    check_name text not null,
    raised boolean not null,
    sample_ids bigint[] not null,
    looked_at bigint not null,
    value double,
    seen text not null,
    advice text not null,
    run_id integer not null,
    primary key (measurement_id, check_name),
    check (len(sample_ids) <= looked_at)
);
comment on table findings is 'Signs that a measurement cannot be trusted: one row a check, raised or not. AutoAttack''s checks and the indicators of attack failure.';
comment on column findings.measurement_id is 'Measurement: measurements.measurement_id; the network and the attack that were checked.';
comment on column findings.check_name is 'Name of the check: softmax_output, zero_gradients, silent_success, …';
comment on column findings.raised is 'Whether it was seen on more samples than is normal.';
comment on column findings.sample_ids is 'Samples on which it was seen.';
comment on column findings.looked_at is 'Samples that were looked at: a few are enough.';
comment on column findings.value is 'Mean of the indicator over them; NULL where it is a flag.';
comment on column findings.seen is 'What it means where it is seen.';
comment on column findings.advice is 'What to do about it.';
comment on column findings.run_id is 'Run that checked.';
