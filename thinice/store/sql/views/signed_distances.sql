create view signed_distances as
select
    t.comparison_id,
    t.dense,
    t.pruned,
    t.data,
    t.norm,
    t.attack,
    t.basis,
    t.sample_id,
    t.label,
    t.class_name,
    t.transition,
    t.epsilon,
    case when pruned_right then t.pruned_epsilon else -x.correction end as pruned_distance,
    case when pruned_right then t.pruned_outcome::text else x.outcome end as pruned_outcome
from transitions t
join comparisons c on c.comparison_id = t.comparison_id
join measurements m on m.measurement_id = c.measurement_id
join measurements theirs
    on theirs.checkpoint_id = c.pruned_checkpoint_id
    and theirs.dataset_id = m.dataset_id
    and theirs.attack_id = m.attack_id
cross join lateral (select t.pruned_prediction is not distinct from t.label as pruned_right)
left join corrections x on x.measurement_id = theirs.measurement_id and x.sample_id = t.sample_id
where t.transition in ('S1,1', 'S1,0') and t.pruned_outcome is not null;
comment on view signed_distances is 'Distances to both boundaries of the samples that the dense network has right, where both were measured: to the pruned one negative where the sample lies behind it. One row a sample and comparison.';
comment on column signed_distances.comparison_id is 'Comparison: comparisons.comparison_id.';
comment on column signed_distances.dense is 'Name of the dense network.';
comment on column signed_distances.pruned is 'Name of the pruned network.';
comment on column signed_distances.data is 'Name of the data set.';
comment on column signed_distances.norm is 'Norm of the distances.';
comment on column signed_distances.attack is 'Attack that found them.';
comment on column signed_distances.basis is 'What correct means: clean, the prediction on the clean sample; or robust at a budget, and by which attack.';
comment on column signed_distances.sample_id is 'Index in the untouched data set.';
comment on column signed_distances.label is 'True class, which the dense network predicts.';
comment on column signed_distances.class_name is 'Name of the true class.';
comment on column signed_distances.transition is 'S1,1 kept, or S1,0 lost.';
comment on column signed_distances.epsilon is 'Distance to the decision boundary of the dense network, an upper bound; NULL where not found.';
comment on column signed_distances.pruned_distance is 'Distance to the decision boundary of the pruned network, an upper bound; where it misclassifies the sample, minus the distance to the nearest input found that it has right. NULL where not found, or not corrected.';
comment on column signed_distances.pruned_outcome is 'What pruned_distance is: found, not_found, corrected or not_corrected; NULL where a misclassified sample was not searched: the same command does.';
