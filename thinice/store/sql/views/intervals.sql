create view intervals as
select
    m.measurement_id,
    k.name as checkpoint,
    d.name as data,
    a.norm,
    a.name as attack,
    b.sample_id,
    s.label,
    d.classes[s.label + 1] as class_name,
    b.epsilon_lower,
    e.epsilon,
    e.outcome,
    case when e.epsilon > 0 then b.epsilon_lower / e.epsilon end as ratio,
    s.source
from lower_bounds b
join measurements m using (checkpoint_id, dataset_id)
join attacks a on a.attack_id = m.attack_id and a.norm = b.norm
join epsilons e on e.measurement_id = m.measurement_id and e.sample_id = b.sample_id
join checkpoints k on k.checkpoint_id = m.checkpoint_id
join datasets d on d.dataset_id = m.dataset_id
join samples s on s.dataset_id = m.dataset_id and s.sample_id = b.sample_id;
comment on view intervals is 'Between which two radii the distance to the boundary lies: one row a sample with a proved bound and an attack.';
comment on column intervals.measurement_id is 'Measurement: measurements.measurement_id.';
comment on column intervals.checkpoint is 'Name of the network.';
comment on column intervals.data is 'Name of the data set.';
comment on column intervals.norm is 'Norm of both.';
comment on column intervals.attack is 'Attack that found epsilon.';
comment on column intervals.sample_id is 'Index in the untouched data set.';
comment on column intervals.label is 'True class.';
comment on column intervals.class_name is 'Name of the true class.';
comment on column intervals.epsilon_lower is 'Proved: no input of the box within this radius has another class; 0 where nothing was proved.';
comment on column intervals.epsilon is 'Found: an adversarial has this distance; 0 where misclassified, NULL where not found.';
comment on column intervals.outcome is 'What epsilon is: found, misclassified or not_found.';
comment on column intervals.ratio is 'epsilon_lower over epsilon: 1 where the distance is known exactly; NULL where there is no epsilon above 0.';
comment on column intervals.source is 'File of the sample; NULL where there is none.';
