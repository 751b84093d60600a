-- What an attack says of its own search: whether it had settled, which stage found, and why it came back empty.

create type stage as enum ('search', 'float64', 'losses', 'starts', 'random', 'dense');
create type diagnosis as enum ('zero_gradient', 'saturated', 'non_deterministic', 'non_finite');

alter table epsilons add column converged boolean;
alter table epsilons add column stage stage;
alter table epsilons add column diagnosis diagnosis;
update epsilons set stage = 'search' where outcome = 'found';
comment on column epsilons.converged is 'Whether the search had settled before it stopped, false where the attack does not say; NULL where thinice 0.1 measured.';
comment on column epsilons.stage is 'What found the adversarial: the search, or a fall-back (float64, losses, starts, random); NULL where misclassified or not found.';
comment on column epsilons.diagnosis is 'Why the search itself came back empty, also where a fall-back then found; NULL where it did not, or for no reason that shows.';

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
        when e.clean_prediction is not distinct from s.label and p.prediction is not distinct from s.label then 'S1,1'
        when e.clean_prediction is not distinct from s.label then 'S1,0'
        when p.prediction is not distinct from s.label then 'S0,1'
        else 'S0,0'
    end::transition as transition,
    e.epsilon,
    e.outcome,
    s.source,
    e.stage,
    e.converged,
    e.diagnosis
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
comment on column transitions.stage is 'What found epsilon: the search, or a fall-back; NULL where misclassified or not found.';
comment on column transitions.converged is 'Whether the search had settled before it stopped; NULL where thinice 0.1 measured.';
comment on column transitions.diagnosis is 'Why the search itself came back empty; NULL where it did not, or for no reason that shows.';
