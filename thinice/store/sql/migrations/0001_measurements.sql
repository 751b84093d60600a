-- Facts are tables, answers are views. Everything says what it is: `describe transitions` should teach.

create type norm as enum ('l0', 'l1', 'l2', 'linf');
create type outcome as enum ('misclassified', 'found', 'not_found');
create type transition as enum ('S1,1', 'S1,0', 'S0,1', 'S0,0');
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
    run_id integer not null,
    primary key (checkpoint_id, dataset_id, sample_id)
);
comment on table predictions is 'What networks make of clean samples, where no attack was needed: pruned ones. A measured network has epsilons.clean_prediction.';
comment on column predictions.checkpoint_id is 'Network: checkpoints.checkpoint_id.';
comment on column predictions.dataset_id is 'Selection of samples: datasets.dataset_id.';
comment on column predictions.sample_id is 'Sample: samples.sample_id.';
comment on column predictions.prediction is 'Predicted class; NULL where a logit is not a number, which counts as wrong.';
comment on column predictions.margin is 'Logit of the true class minus the best other logit, negative when misclassified; NULL where it was not recorded.';
comment on column predictions.run_id is 'Run that predicted it.';

create table epsilons (
    measurement_id integer not null,
    sample_id bigint not null,
    outcome outcome not null,
    epsilon real,
    prediction integer,
    clean_prediction integer,
    evaluations real not null,
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

create table comparisons (
    comparison_id integer primary key default nextval('comparison_ids'),
    measurement_id integer not null,
    pruned_checkpoint_id integer not null,
    basis text not null,
    run_id integer not null,
    created timestamp not null,
    unique (measurement_id, pruned_checkpoint_id, basis)
);
comment on table comparisons is 'A pruned network held against a measured dense one.';
comment on column comparisons.comparison_id is 'Key.';
comment on column comparisons.measurement_id is 'Measurement of the dense network: measurements.measurement_id; names its samples and attack too.';
comment on column comparisons.pruned_checkpoint_id is 'Pruned network: checkpoints.checkpoint_id.';
comment on column comparisons.basis is 'What correct means: clean, the prediction on the clean sample.';
comment on column comparisons.run_id is 'Run that compared them.';
comment on column comparisons.created is 'When they were first compared, UTC.';

create table statistics (
    comparison_id integer primary key,
    n_kept bigint not null,
    n_lost bigint not null,
    n_gained bigint not null,
    n_wrong bigint not null,
    not_found_kept bigint not null,
    not_found_lost bigint not null,
    auc double,
    auc_low double,
    auc_high double,
    confidence double,
    u double,
    p_value double,
    log10_p double,
    p_value_two_sided double,
    log10_p_two_sided double,
    median_kept double,
    median_lost double,
    shift double,
    cliffs_delta double,
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
comment on column statistics.auc is 'Chance that a kept sample lies farther from the boundary than a lost one; ties count half.';
comment on column statistics.auc_low is 'Lower end of the confidence interval of auc.';
comment on column statistics.auc_high is 'Upper end of the confidence interval of auc.';
comment on column statistics.confidence is 'Level of the confidence interval of auc.';
comment on column statistics.u is 'Mann-Whitney U of the lost samples: pairs in which the lost one lies farther, ties count half.';
comment on column statistics.p_value is 'One-sided: lost samples lie nearer. 0 below 1e-308, where log10_p still holds.';
comment on column statistics.log10_p is 'Decimal logarithm of p_value.';
comment on column statistics.p_value_two_sided is 'Two-sided p-value.';
comment on column statistics.log10_p_two_sided is 'Decimal logarithm of p_value_two_sided.';
comment on column statistics.median_kept is 'Median epsilon of kept samples; NULL where it falls on a sample that was not found.';
comment on column statistics.median_lost is 'Median epsilon of lost samples; NULL where it falls on a sample that was not found.';
comment on column statistics.shift is 'By how much kept samples lie farther: median of all differences kept - lost (Hodges-Lehmann).';
comment on column statistics.cliffs_delta is 'Effect size 2 auc - 1.';
comment on column statistics.notes is 'Why a number is NULL.';
comment on column statistics.run_id is 'Run that computed them.';
comment on column statistics.created is 'When they were computed, UTC.';

create view transitions as
select
    c.comparison_id,
    dense.name as dense,
    pruned.name as pruned,
    d.name as data,
    a.norm,
    a.name as attack,
    c.basis,
    e.sample_id,
    s.label,
    d.classes[s.label + 1] as class_name,
    e.clean_prediction as dense_prediction,
    p.prediction as pruned_prediction,
    case
        when e.clean_prediction is not distinct from s.label and p.prediction is not distinct from s.label then 'S1,1'
        when e.clean_prediction is not distinct from s.label then 'S1,0'
        when p.prediction is not distinct from s.label then 'S0,1'
        else 'S0,0'
    end::transition as transition,
    e.epsilon,
    e.outcome,
    s.source
from comparisons c
join measurements m using (measurement_id)
join checkpoints dense on dense.checkpoint_id = m.checkpoint_id
join checkpoints pruned on pruned.checkpoint_id = c.pruned_checkpoint_id
join datasets d on d.dataset_id = m.dataset_id
join attacks a on a.attack_id = m.attack_id
join epsilons e on e.measurement_id = c.measurement_id
join samples s on s.dataset_id = m.dataset_id and s.sample_id = e.sample_id
join predictions p
    on p.checkpoint_id = c.pruned_checkpoint_id
    and p.dataset_id = m.dataset_id
    and p.sample_id = e.sample_id;
comment on view transitions is 'What pruning does to each sample: one row a sample and comparison.';
comment on column transitions.comparison_id is 'Comparison: comparisons.comparison_id.';
comment on column transitions.dense is 'Name of the dense network.';
comment on column transitions.pruned is 'Name of the pruned network.';
comment on column transitions.data is 'Name of the data set.';
comment on column transitions.norm is 'Norm of epsilon.';
comment on column transitions.attack is 'Attack that found epsilon.';
comment on column transitions.basis is 'What correct means: clean, the prediction on the clean sample.';
comment on column transitions.sample_id is 'Index in the untouched data set.';
comment on column transitions.label is 'True class.';
comment on column transitions.class_name is 'Name of the true class.';
comment on column transitions.dense_prediction is 'Class predicted by the dense network; NULL where a logit is not a number.';
comment on column transitions.pruned_prediction is 'Class predicted by the pruned network; NULL where a logit is not a number.';
comment on column transitions.transition is 'Correct (1) or wrong (0) under the dense network, then under the pruned one: S1,0 was lost by pruning.';
comment on column transitions.epsilon is 'Distance to the decision boundary of the dense network, an upper bound; 0 where misclassified, NULL where not found.';
comment on column transitions.outcome is 'What epsilon is: found, misclassified or not_found.';
comment on column transitions.source is 'File of the sample; NULL where there is none.';

create view thin_ice as
select
    comparison_id, dense, pruned, data, norm, attack, sample_id, label, class_name,
    epsilon, transition, pruned_prediction, source
from transitions
where outcome = 'found'
order by epsilon, comparison_id, sample_id;
comment on view thin_ice is 'The samples nearest to the decision boundary of the dense network, which classifies them correctly: the closest first.';
comment on column thin_ice.comparison_id is 'Comparison: comparisons.comparison_id.';
comment on column thin_ice.dense is 'Name of the dense network.';
comment on column thin_ice.pruned is 'Name of the pruned network.';
comment on column thin_ice.data is 'Name of the data set.';
comment on column thin_ice.norm is 'Norm of epsilon.';
comment on column thin_ice.attack is 'Attack that found epsilon.';
comment on column thin_ice.sample_id is 'Index in the untouched data set.';
comment on column thin_ice.label is 'True class.';
comment on column thin_ice.class_name is 'Name of the true class.';
comment on column thin_ice.epsilon is 'Distance to the decision boundary of the dense network, an upper bound.';
comment on column thin_ice.transition is 'S1,1: the pruned network kept the sample; S1,0: it lost it.';
comment on column thin_ice.pruned_prediction is 'Class predicted by the pruned network; NULL where a logit is not a number.';
comment on column thin_ice.source is 'File of the sample; NULL where there is none.';

create view separation as
select
    c.comparison_id,
    dense.name as dense,
    pruned.name as pruned,
    pruned.sparsity,
    d.name as data,
    a.norm,
    a.name as attack,
    c.basis,
    t.n_kept + t.n_lost + t.n_gained + t.n_wrong as n,
    t.n_kept,
    t.n_lost,
    t.n_gained,
    t.n_wrong,
    (t.n_kept + t.n_lost) / n as dense_accuracy,
    (t.n_kept + t.n_gained) / n as pruned_accuracy,
    t.auc,
    t.auc_low,
    t.auc_high,
    t.u,
    t.p_value,
    t.log10_p,
    t.median_kept,
    t.median_lost,
    t.shift,
    t.cliffs_delta,
    t.not_found_kept,
    t.not_found_lost,
    t.notes
from comparisons c
join measurements m using (measurement_id)
join checkpoints dense on dense.checkpoint_id = m.checkpoint_id
join checkpoints pruned on pruned.checkpoint_id = c.pruned_checkpoint_id
join datasets d on d.dataset_id = m.dataset_id
join attacks a on a.attack_id = m.attack_id
left join statistics t on t.comparison_id = c.comparison_id;
comment on view separation is 'How well distance to the boundary tells lost samples from kept ones: one row a comparison.';
comment on column separation.comparison_id is 'Comparison: comparisons.comparison_id.';
comment on column separation.dense is 'Name of the dense network.';
comment on column separation.pruned is 'Name of the pruned network.';
comment on column separation.sparsity is 'Fraction of prunable weights of the pruned network that are zero.';
comment on column separation.data is 'Name of the data set.';
comment on column separation.norm is 'Norm of epsilon.';
comment on column separation.attack is 'Attack that found the epsilons.';
comment on column separation.basis is 'What correct means: clean, the prediction on the clean sample.';
comment on column separation.n is 'Samples compared; NULL, as all numbers, where a run ended before the statistics.';
comment on column separation.n_kept is 'Samples correct under both networks (S1,1).';
comment on column separation.n_lost is 'Samples that only the dense network classifies correctly (S1,0): lost by pruning.';
comment on column separation.n_gained is 'Samples that only the pruned network classifies correctly (S0,1).';
comment on column separation.n_wrong is 'Samples wrong under both networks (S0,0).';
comment on column separation.dense_accuracy is 'Share of samples that the dense network classifies correctly.';
comment on column separation.pruned_accuracy is 'Share of samples that the pruned network classifies correctly.';
comment on column separation.auc is 'Chance that a kept sample lies farther from the boundary than a lost one; ties count half.';
comment on column separation.auc_low is 'Lower end of the confidence interval of auc.';
comment on column separation.auc_high is 'Upper end of the confidence interval of auc.';
comment on column separation.u is 'Mann-Whitney U of the lost samples: pairs in which the lost one lies farther, ties count half.';
comment on column separation.p_value is 'One-sided: lost samples lie nearer. 0 below 1e-308, where log10_p still holds.';
comment on column separation.log10_p is 'Decimal logarithm of p_value.';
comment on column separation.median_kept is 'Median epsilon of kept samples.';
comment on column separation.median_lost is 'Median epsilon of lost samples.';
comment on column separation.shift is 'By how much kept samples lie farther (Hodges-Lehmann).';
comment on column separation.cliffs_delta is 'Effect size 2 auc - 1.';
comment on column separation.not_found_kept is 'Kept samples whose epsilon is unknown: ranked as the farthest.';
comment on column separation.not_found_lost is 'Lost samples whose epsilon is unknown: ranked as the farthest.';
comment on column separation.notes is 'Why a number is NULL.';

create view security_curves as
with distances as (
    -- a prediction that is not a number is wrong without any perturbation
    select
        measurement_id,
        outcome = 'not_found' and clean_prediction is not null as not_found,
        case when clean_prediction is null then 0 else epsilon end as epsilon
    from epsilons
),
steps as (
    -- every distinct epsilon, and 0 where nothing is wrong
    select measurement_id, epsilon as budget, count(*) as reached
    from distances
    where epsilon is not null
    group by all
    union all
    select measurement_id, 0, 0
    from measurements
),
budgets as (
    select measurement_id, budget, sum(reached) as reached
    from steps
    group by all
),
totals as (
    select measurement_id, count(*) as n, count(*) filter (where not_found) as not_found
    from distances
    group by all
)
select
    measurement_id,
    k.name as checkpoint,
    d.name as data,
    a.norm,
    a.name as attack,
    b.budget,
    1 - sum(b.reached) over (partition by measurement_id order by b.budget) / t.n as robust_accuracy,
    t.n::integer as n,
    t.not_found::integer as not_found
from budgets b
join totals t using (measurement_id)
join measurements m using (measurement_id)
join checkpoints k on k.checkpoint_id = m.checkpoint_id
join datasets d on d.dataset_id = m.dataset_id
join attacks a on a.attack_id = m.attack_id;
comment on view security_curves is 'Robust accuracy at every budget where it changes: one row a measurement and budget.';
comment on column security_curves.measurement_id is 'Measurement: measurements.measurement_id.';
comment on column security_curves.checkpoint is 'Name of the network.';
comment on column security_curves.data is 'Name of the data set.';
comment on column security_curves.norm is 'Norm of the budget.';
comment on column security_curves.attack is 'Attack that found the epsilons.';
comment on column security_curves.budget is 'Radius on the [0, 1] scale; at 0 robust accuracy is the clean accuracy.';
comment on column security_curves.robust_accuracy is 'Share of samples without a known adversarial within the budget, an upper bound: epsilon > budget, or not found.';
comment on column security_curves.n is 'Samples measured.';
comment on column security_curves.not_found is 'Samples counted as robust at every budget because nothing was found.';
