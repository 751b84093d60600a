-- Transitions on a robust basis, and intervals: what correct means can be "robust at a budget", of both networks.

alter table comparisons add column budget double;
alter table comparisons add column dense_verdicts integer;
alter table comparisons add column pruned_verdicts integer;
comment on column comparisons.basis is 'What correct means: clean, the prediction on the clean sample; or robust at a budget, and by which attack.';
comment on column comparisons.budget is 'Budget of a robust basis, on the [0, 1] scale in the norm of the measurement; NULL where the basis is clean.';
comment on column comparisons.dense_verdicts is 'Measurement that says where the dense network is robust, by its epsilons or verdicts; NULL where the basis is clean.';
comment on column comparisons.pruned_verdicts is 'The same of the pruned network.';

-- Wilson's score interval of k of n at 95 %
create macro wilson_low(k, n) as
    greatest(0, (k + 1.920729410347062 - 1.959963984540054 * sqrt(greatest(0, k * (1 - k / n)) + 0.960364705173531))
        / (n + 3.841458820694124));
create macro wilson_high(k, n) as
    least(1, (k + 1.920729410347062 + 1.959963984540054 * sqrt(greatest(0, k * (1 - k / n)) + 0.960364705173531))
        / (n + 3.841458820694124));
comment on macro wilson_low is 'Lower end of Wilson''s interval of the share k of n at 95 %.';
comment on macro wilson_high is 'Upper end of Wilson''s interval of the share k of n at 95 %.';

create or replace view transitions as
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
        when dense_correct and pruned_correct then 'S1,1'
        when dense_correct then 'S1,0'
        when pruned_correct then 'S0,1'
        else 'S0,0'
    end::transition as transition,
    e.epsilon,
    e.outcome,
    s.source,
    e.stage,
    e.converged,
    e.diagnosis,
    case when carried then e.epsilon else own.epsilon end as pruned_epsilon,
    case when carried then 'found'::outcome else own.outcome end as pruned_outcome,
    case when carried then 'dense'::stage else own.stage end as pruned_stage,
    c.budget,
    dense_correct,
    pruned_correct
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
    and p.sample_id = e.sample_id
left join measurements theirs
    on theirs.checkpoint_id = c.pruned_checkpoint_id
    and theirs.dataset_id = m.dataset_id
    and theirs.attack_id = m.attack_id
left join epsilons own on own.measurement_id = theirs.measurement_id and own.sample_id = e.sample_id
left join transfers t on t.comparison_id = c.comparison_id and t.sample_id = e.sample_id
cross join lateral (
    select coalesce(
        own.clean_prediction = s.label
        and t.prediction <> s.label
        and e.outcome = 'found'
        and (own.epsilon is null or e.epsilon < own.epsilon),
        false
    ) as carried
) as judged
left join epsilons de on de.measurement_id = c.dense_verdicts and de.sample_id = e.sample_id
left join epsilons pe on pe.measurement_id = c.pruned_verdicts and pe.sample_id = e.sample_id
left join verdicts dv on dv.measurement_id = c.dense_verdicts and dv.sample_id = e.sample_id
left join verdicts pv on pv.measurement_id = c.pruned_verdicts and pv.sample_id = e.sample_id
cross join lateral (
    -- on the clean sample, or robust at the budget: by epsilons, or by the attack's own verdicts
    select
        case
            when c.budget is null then e.clean_prediction is not distinct from s.label
            else coalesce(dv.robust_to_this_attack, de.clean_prediction is not distinct from s.label
                and (de.epsilon is null or de.epsilon > c.budget::real))
        end as dense_correct,
        case
            when c.budget is null then p.prediction is not distinct from s.label
            else coalesce(pv.robust_to_this_attack, pe.clean_prediction is not distinct from s.label
                and (pe.epsilon is null or pe.epsilon > c.budget::real))
        end as pruned_correct
) as correct;
comment on view transitions is 'What pruning does to each sample: one row a sample and comparison.';
comment on column transitions.comparison_id is 'Comparison: comparisons.comparison_id.';
comment on column transitions.dense is 'Name of the dense network.';
comment on column transitions.pruned is 'Name of the pruned network.';
comment on column transitions.data is 'Name of the data set.';
comment on column transitions.norm is 'Norm of epsilon.';
comment on column transitions.attack is 'Attack that found epsilon.';
comment on column transitions.basis is 'What correct means: clean, the prediction on the clean sample; or robust at a budget, and by which attack.';
comment on column transitions.sample_id is 'Index in the untouched data set.';
comment on column transitions.label is 'True class.';
comment on column transitions.class_name is 'Name of the true class.';
comment on column transitions.dense_prediction is 'Class predicted by the dense network; NULL where a logit is not a number.';
comment on column transitions.pruned_prediction is 'Class predicted by the pruned network; NULL where a logit is not a number.';
comment on column transitions.transition is 'Correct (1) or wrong (0) under the dense network, then under the pruned one, in the meaning of basis: S1,0 was lost by pruning.';
comment on column transitions.epsilon is 'Distance to the decision boundary of the dense network, an upper bound; 0 where misclassified, NULL where not found.';
comment on column transitions.outcome is 'What epsilon is: found, misclassified or not_found.';
comment on column transitions.source is 'File of the sample; NULL where there is none.';
comment on column transitions.stage is 'What found epsilon: the search, or a fall-back; NULL where misclassified or not found.';
comment on column transitions.converged is 'Whether the search had settled before it stopped; NULL where thinice 0.1 measured.';
comment on column transitions.diagnosis is 'Why the search itself came back empty; NULL where it did not, or for no reason that shows.';
comment on column transitions.pruned_epsilon is 'Distance to the decision boundary of the pruned network, an upper bound; 0 where it misclassifies the sample, NULL where not found or not measured.';
comment on column transitions.pruned_outcome is 'What pruned_epsilon is: found, misclassified or not_found; NULL where it was not measured.';
comment on column transitions.pruned_stage is 'What found pruned_epsilon; dense: the adversarial of the dense network, which fools the pruned one and is shorter than what was found on it.';
comment on column transitions.budget is 'Budget of a robust basis; NULL where the basis is clean.';
comment on column transitions.dense_correct is 'Whether the dense network is correct, in the meaning of basis.';
comment on column transitions.pruned_correct is 'Whether the pruned network is correct, in the meaning of basis.';

create or replace view predictors as
select
    c.comparison_id,
    dense.name as dense,
    pruned.name as pruned,
    d.name as data,
    a.norm,
    a.name as attack,
    e.sample_id,
    s.label,
    p.prediction is distinct from s.label as lost,
    e.epsilon,
    e.outcome,
    q.margin,
    q.confidence,
    q.loss
from comparisons c
join measurements m on m.measurement_id = c.measurement_id
join checkpoints dense on dense.checkpoint_id = m.checkpoint_id
join checkpoints pruned on pruned.checkpoint_id = c.pruned_checkpoint_id
join datasets d on d.dataset_id = m.dataset_id
join attacks a on a.attack_id = m.attack_id
join epsilons e on e.measurement_id = c.measurement_id
join samples s on s.dataset_id = m.dataset_id and s.sample_id = e.sample_id
join predictions p
    on p.checkpoint_id = c.pruned_checkpoint_id
    and p.dataset_id = m.dataset_id
    and p.sample_id = e.sample_id
left join predictions q
    on q.checkpoint_id = m.checkpoint_id
    and q.dataset_id = m.dataset_id
    and q.sample_id = e.sample_id
where e.clean_prediction = s.label and c.budget is null;
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
comment on column predictors.loss is 'Cross-entropy of the dense network in nats; NULL where it was not recorded.';

create or replace view security_curves as
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
    t.not_found::integer as not_found,
    wilson_low(robust_accuracy * t.n, t.n) as low,
    wilson_high(robust_accuracy * t.n, t.n) as high
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
comment on column security_curves.low is 'Lower end of the Wilson interval of robust_accuracy at 95 %, point by point.';
comment on column security_curves.high is 'Upper end of the Wilson interval of robust_accuracy at 95 %, point by point.';
comment on column separation.basis is 'What correct means: clean, the prediction on the clean sample; or robust at a budget, and by which attack.';

-- Robust accuracy of everything measured, at any budget: from robust_at(8/255).
create macro robust_at(radius) as table
with counted as (
    select
        measurement_id,
        count(*) as n,
        count(*) filter (where clean_prediction is not null and (epsilon is null or epsilon > radius::real)) as robust,
        count(*) filter (where outcome = 'not_found' and clean_prediction is not null) as not_found
    from epsilons
    group by measurement_id
)
select
    c.measurement_id,
    k.name as checkpoint,
    k.sparsity,
    d.name as data,
    a.norm,
    a.name as attack,
    radius as budget,
    c.n,
    c.robust / c.n as robust_accuracy,
    wilson_low(c.robust, c.n) as low,
    wilson_high(c.robust, c.n) as high,
    c.not_found
from counted c
join measurements m using (measurement_id)
join checkpoints k on k.checkpoint_id = m.checkpoint_id
join datasets d on d.dataset_id = m.dataset_id
join attacks a on a.attack_id = m.attack_id
order by c.measurement_id;
comment on macro table robust_at is 'Robust accuracy at any budget from epsilons, with Wilson intervals: from robust_at(8/255).';
