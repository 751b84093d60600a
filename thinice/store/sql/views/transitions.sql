-- A join holds one of its sides in memory. Of a large store the predictions of pruned networks are most: they run past what
-- the dense networks have of a sample, which is little.
create view transitions as
with pairs as (
    select
        c.*,
        dense.name as dense,
        pruned.name as pruned,
        d.name as data,
        a.norm,
        a.name as attack,
        m.checkpoint_id,
        m.dataset_id,
        theirs.measurement_id as theirs
    from comparisons c
    join measurements m using (measurement_id)
    join checkpoints dense on dense.checkpoint_id = m.checkpoint_id
    join checkpoints pruned on pruned.checkpoint_id = c.pruned_checkpoint_id
    join datasets d on d.dataset_id = m.dataset_id
    join attacks a on a.attack_id = m.attack_id
    left join measurements theirs
        on theirs.checkpoint_id = c.pruned_checkpoint_id
        and theirs.dataset_id = m.dataset_id
        and theirs.attack_id = m.attack_id
),
measured as (
    select e.*, s.label, d.classes[s.label + 1] as class_name, s.source, b.epsilon_lower
    from epsilons e
    join measurements m using (measurement_id)
    join datasets d on d.dataset_id = m.dataset_id
    join attacks a on a.attack_id = m.attack_id
    join samples s on s.dataset_id = m.dataset_id and s.sample_id = e.sample_id
    left join lower_bounds b
        on b.checkpoint_id = m.checkpoint_id
        and b.dataset_id = m.dataset_id
        and b.norm = a.norm
        and b.sample_id = e.sample_id
    where e.measurement_id in (select measurement_id from comparisons)
),
predicted as (
    select
        c.*,
        p.sample_id,
        p.prediction as pruned_prediction,
        c.measurement_id + 0 * p.dataset_id as measured_id  -- of both, so that these are joined first
    from predictions p
    join pairs c on c.pruned_checkpoint_id = p.checkpoint_id and c.dataset_id = p.dataset_id
),
facts as (
    select
        c.*,
        e.* exclude (measurement_id, sample_id),
        pb.epsilon_lower as pruned_epsilon_lower,
        own.epsilon as own_epsilon,
        own.outcome as own_outcome,
        own.found_by as own_found_by,
        coalesce(
            own.clean_prediction = e.label
            and t.prediction <> e.label
            and e.outcome = 'found'
            and (own.epsilon is null or e.epsilon < own.epsilon),
            false
        ) as carried,
        -- on the clean sample, or robust at the budget: by epsilons, or by the attack's own verdicts
        case
            when c.budget is null then e.clean_prediction is not distinct from e.label
            else coalesce(dv.robust_to_this_attack, de.clean_prediction is not distinct from e.label
                and (de.epsilon is null or de.epsilon > c.budget::real))
        end as dense_correct,
        case
            when c.budget is null then c.pruned_prediction is not distinct from e.label
            else coalesce(pv.robust_to_this_attack, pe.clean_prediction is not distinct from e.label
                and (pe.epsilon is null or pe.epsilon > c.budget::real))
        end as pruned_correct
    from predicted c
    join measured e on e.measurement_id = c.measured_id and e.sample_id = c.sample_id
    left join lower_bounds pb
        on pb.checkpoint_id = c.pruned_checkpoint_id
        and pb.dataset_id = c.dataset_id
        and pb.norm = c.norm
        and pb.sample_id = c.sample_id
    left join (from epsilons where measurement_id in (select theirs from pairs)) as own
        on own.measurement_id = c.theirs and own.sample_id = c.sample_id
    left join transfers t on t.comparison_id = c.comparison_id and t.sample_id = c.sample_id
    left join (from epsilons where measurement_id in (select dense_verdicts from comparisons)) as de
        on de.measurement_id = c.dense_verdicts and de.sample_id = c.sample_id
    left join (from epsilons where measurement_id in (select pruned_verdicts from comparisons)) as pe
        on pe.measurement_id = c.pruned_verdicts and pe.sample_id = c.sample_id
    left join (from verdicts where measurement_id in (select dense_verdicts from comparisons)) as dv
        on dv.measurement_id = c.dense_verdicts and dv.sample_id = c.sample_id
    left join (from verdicts where measurement_id in (select pruned_verdicts from comparisons)) as pv
        on pv.measurement_id = c.pruned_verdicts and pv.sample_id = c.sample_id
)
select
    comparison_id,
    dense,
    pruned,
    data,
    norm,
    attack,
    basis,
    sample_id,
    label,
    class_name,
    clean_prediction as dense_prediction,
    pruned_prediction,
    case
        when dense_correct and pruned_correct then 'S1,1'
        when dense_correct then 'S1,0'
        when pruned_correct then 'S0,1'
        else 'S0,0'
    end::transition as transition,
    epsilon,
    outcome,
    source,
    found_by,
    converged,
    failure_reason,
    case when carried then epsilon else own_epsilon end as pruned_epsilon,
    case when carried then 'found'::outcome else own_outcome end as pruned_outcome,
    case when carried then 'dense'::found_by else own_found_by end as pruned_found_by,
    budget,
    dense_correct,
    pruned_correct,
    epsilon_lower,
    pruned_epsilon_lower
from facts;
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
comment on column transitions.found_by is 'What found epsilon: the search, or a fall-back; NULL where misclassified or not found.';
comment on column transitions.converged is 'Whether the search had converged before it stopped; false where the attack does not say.';
comment on column transitions.failure_reason is 'Why the search itself came back empty; NULL where it did not, or for no reason that shows.';
comment on column transitions.pruned_epsilon is 'Distance to the decision boundary of the pruned network, an upper bound; 0 where it misclassifies the sample, NULL where not found or not measured.';
comment on column transitions.pruned_outcome is 'What pruned_epsilon is: found, misclassified or not_found; NULL where it was not measured.';
comment on column transitions.pruned_found_by is 'What found pruned_epsilon; dense: the adversarial of the dense network, which fools the pruned one and is shorter than what was found on it.';
comment on column transitions.budget is 'Budget of a robust basis; NULL where the basis is clean.';
comment on column transitions.dense_correct is 'Whether the dense network is correct, in the meaning of basis.';
comment on column transitions.pruned_correct is 'Whether the pruned network is correct, in the meaning of basis.';
comment on column transitions.epsilon_lower is 'Proved: within this radius the dense network has no adversarial; 0 where nothing was proved, NULL where that was not tried.';
comment on column transitions.pruned_epsilon_lower is 'Proved: within this radius the pruned network has no adversarial; 0 where nothing was proved, NULL where that was not tried.';
