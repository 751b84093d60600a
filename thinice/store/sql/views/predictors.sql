-- As in transitions: predictions of pruned networks, which are most, are held against what the dense ones have of a sample.
create view predictors as
with measured as (
    select
        e.measurement_id, e.sample_id, s.label, e.epsilon, e.outcome, q.margin, q.confidence, q.loss, g.gradient_norm
    from epsilons e
    join measurements m using (measurement_id)
    join samples s on s.dataset_id = m.dataset_id and s.sample_id = e.sample_id
    left join (
        from predictions
        where checkpoint_id in (select checkpoint_id from measurements join comparisons using (measurement_id))
    ) as q
        on q.checkpoint_id = m.checkpoint_id
        and q.dataset_id = m.dataset_id
        and q.sample_id = e.sample_id
    left join gradients g
        on g.checkpoint_id = m.checkpoint_id
        and g.dataset_id = m.dataset_id
        and g.sample_id = e.sample_id
    where e.clean_prediction = s.label and e.measurement_id in (select measurement_id from comparisons)
),
predicted as (
    select
        c.comparison_id,
        dense.name as dense,
        pruned.name as pruned,
        d.name as data,
        a.norm,
        a.name as attack,
        p.sample_id,
        p.prediction,
        c.measurement_id + 0 * p.dataset_id as measured_id  -- of both, so that these are joined first
    from predictions p
    join measurements m using (dataset_id)
    join comparisons c on c.measurement_id = m.measurement_id and c.pruned_checkpoint_id = p.checkpoint_id
    join checkpoints dense on dense.checkpoint_id = m.checkpoint_id
    join checkpoints pruned on pruned.checkpoint_id = c.pruned_checkpoint_id
    join datasets d on d.dataset_id = m.dataset_id
    join attacks a on a.attack_id = m.attack_id
    where c.budget is null
)
select
    comparison_id,
    dense,
    pruned,
    data,
    norm,
    attack,
    sample_id,
    e.label,
    p.prediction is distinct from e.label as lost,
    e.epsilon,
    e.outcome,
    e.margin,
    e.confidence,
    e.loss,
    e.gradient_norm
from predicted p
join measured e using (sample_id)
where e.measurement_id = p.measured_id;
comment on view predictors is 'What the dense network alone says of each sample that it has right, and whether pruning loses it: one row a sample and comparison on the clean basis.';
comment on column predictors.comparison_id is 'Comparison: comparisons.comparison_id.';
comment on column predictors.dense is 'Name of the dense network.';
comment on column predictors.pruned is 'Name of the pruned network.';
comment on column predictors.data is 'Name of the data set.';
comment on column predictors.norm is 'Norm of epsilon.';
comment on column predictors.attack is 'Attack that found epsilon.';
comment on column predictors.sample_id is 'Index in the untouched data set.';
comment on column predictors.label is 'True class, which the dense network predicts.';
comment on column predictors.lost is 'Whether the pruned network gets the sample wrong: S1,0, else S1,1.';
comment on column predictors.epsilon is 'Distance to the decision boundary of the dense network, an upper bound; NULL where not found.';
comment on column predictors.outcome is 'What epsilon is: found or not_found.';
comment on column predictors.margin is 'Logit of the true class minus the best other logit, of the dense network; NULL where it was not recorded.';
comment on column predictors.confidence is 'Largest probability of the dense network''s softmax; NULL where it was not recorded.';
comment on column predictors.gradient_norm is 'Norm of the gradient of the dense network''s loss of the sample in its weights; NULL where it was not asked for.';
comment on column predictors.loss is 'Cross-entropy of the dense network in nats; NULL where it was not recorded.';
