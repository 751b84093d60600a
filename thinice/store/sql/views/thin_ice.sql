create view thin_ice as
select
    comparison_id, dense, pruned, data, norm, attack, sample_id, label, class_name,
    epsilon, transition, pruned_prediction, source, epsilon_lower
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
comment on column thin_ice.epsilon_lower is 'Proved: within this radius the dense network has no adversarial; 0 where nothing was proved, NULL where that was not tried.';
