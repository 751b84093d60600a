create view cells as
with wanted as (
    select distinct measurement_id, budget from study_cells where measurement_id is not null
),
by_distance as (
    select
        w.measurement_id, w.budget,
        count(*) as n,
        count(*) filter (where e.clean_prediction is not null and (e.epsilon is null or e.epsilon > w.budget::real)) as robust
    from wanted w
    join epsilons e using (measurement_id)
    group by all
),
at_budget as (
    -- this attack alone: what else the store knows of a sample does not count
    select
        w.measurement_id, w.budget,
        count(v.robust_to_this_attack) as n,
        count(*) filter (where v.robust_to_this_attack) as robust
    from wanted w
    join verdicts v using (measurement_id)
    group by all
),
counted as (
    from by_distance
    union all
    from at_budget
),
clean as (
    select p.checkpoint_id, p.dataset_id, count(*) as n, count(*) filter (where p.prediction = s.label) as correct
    from predictions p
    join samples s using (dataset_id, sample_id)
    group by all
)
select
    c.study,
    c.setup,
    c.architecture,
    c.data,
    c.training,
    coalesce(c.method, 'dense') as method,
    c.rate,
    c.seed,
    c.attack,
    c.norm,
    c.budget,
    r.n,
    a.correct / a.n as clean_accuracy,
    r.robust / r.n as robust_accuracy,
    wilson_low(r.robust, r.n) as low,
    wilson_high(r.robust, r.n) as high,
    k.name as checkpoint,
    k.sparsity,
    c.checkpoint_id,
    c.dataset_id,
    c.measurement_id,
    c.error
from study_cells c
left join counted r using (measurement_id, budget)
left join clean a using (checkpoint_id, dataset_id)
left join checkpoints k using (checkpoint_id)
order by c.study, c.setup, c.seed, c.rate, method, c.norm, c.attack, c.budget;
comment on view cells is 'The results of studies: one row for each network, attack and budget. Means over seeds: studies.';
comment on column cells.study is 'Name of the study.';
comment on column cells.setup is 'Which part of the study: architecture, data and training together.';
comment on column cells.architecture is 'Name of the architecture.';
comment on column cells.data is 'Data set.';
comment on column cells.training is 'Recipe by which the dense network was trained, with what was changed of it.';
comment on column cells.method is 'How the network was pruned; dense: not at all.';
comment on column cells.rate is 'Compression rate that was asked for; 1 is the dense network.';
comment on column cells.seed is 'Seed of weights, training and pruning.';
comment on column cells.attack is 'Attack that decides which samples are robust.';
comment on column cells.norm is 'Norm of the budget.';
comment on column cells.budget is 'Radius on the [0, 1] scale; in l0 a number of values.';
comment on column cells.n is 'Samples with a verdict; NULL where there is an error.';
comment on column cells.clean_accuracy is 'Share of the samples that the network has right.';
comment on column cells.robust_accuracy is 'Share of the samples that this attack does not break within the budget: an upper bound.';
comment on column cells.low is 'Lower end of the Wilson interval of robust_accuracy at 95 %.';
comment on column cells.high is 'Upper end of the Wilson interval of robust_accuracy at 95 %.';
comment on column cells.checkpoint is 'Name of the network.';
comment on column cells.sparsity is 'Fraction of all prunable weights that are zero: where structures are pruned, of convolutions alone, less than the rate says.';
comment on column cells.checkpoint_id is 'Network: checkpoints.checkpoint_id.';
comment on column cells.dataset_id is 'Samples: datasets.dataset_id.';
comment on column cells.measurement_id is 'Measurement: measurements.measurement_id.';
comment on column cells.error is 'Why there is no answer; NULL where there is one.';
