create view studies as
select
    study,
    setup,
    architecture,
    data,
    training,
    method,
    rate,
    attack,
    norm,
    budget,
    count(robust_accuracy) as seeds,
    avg(clean_accuracy) as clean_accuracy,
    stddev_samp(clean_accuracy) as clean_sd,
    avg(robust_accuracy) as robust_accuracy,
    stddev_samp(robust_accuracy) as robust_sd,
    avg(sparsity) as sparsity,
    count(error) as errors
from cells
group by all
order by study, setup, norm, attack, budget, method, rate;
comment on view studies is 'The results of studies, over seeds: one row for each point of a table or figure.';
comment on column studies.study is 'Name of the study.';
comment on column studies.setup is 'Which part of the study: architecture, data and training together.';
comment on column studies.architecture is 'Name of the architecture.';
comment on column studies.data is 'Data set.';
comment on column studies.training is 'Recipe by which the dense networks were trained, with what was changed of it.';
comment on column studies.method is 'How the networks were pruned; dense: not at all.';
comment on column studies.rate is 'Compression rate that was asked for; 1 is the dense network.';
comment on column studies.attack is 'Attack that decides which samples are robust.';
comment on column studies.norm is 'Norm of the budget.';
comment on column studies.budget is 'Radius on the [0, 1] scale; in l0 a number of values.';
comment on column studies.seeds is 'Networks with a result: one a seed.';
comment on column studies.clean_accuracy is 'Mean over the seeds of the share of samples that are right.';
comment on column studies.clean_sd is 'Standard deviation of it between seeds; NULL for one seed.';
comment on column studies.robust_accuracy is 'Mean over the seeds of the share of samples that the attack does not break within the budget.';
comment on column studies.robust_sd is 'Standard deviation of it between seeds; NULL for one seed.';
comment on column studies.sparsity is 'Mean fraction of all prunable weights that are zero.';
comment on column studies.errors is 'Networks without a result: cells.error says why.';
