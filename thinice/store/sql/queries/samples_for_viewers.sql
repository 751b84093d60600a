-- One row a sample and comparison, for programs that show pictures; `pictures` and `adversarial_pictures` are given.
select
    case when i.image is not null then {'bytes': i.image, 'path': i.path} end as image,
    case when a.image is not null then {'bytes': a.image, 'path': a.path} end as adversarial,
    t.comparison_id,
    t.dense,
    t.pruned,
    t.data,
    d.split,
    t.norm::text as norm,
    t.attack,
    t.basis,
    t.sample_id,
    t.source,
    t.class_name as label,
    coalesce(d.classes[t.dense_prediction + 1], t.dense_prediction::text) as dense_prediction,
    coalesce(d.classes[t.pruned_prediction + 1], t.pruned_prediction::text) as pruned_prediction,
    t.transition::text as transition,
    t.epsilon,
    t.outcome::text as outcome,
    t.pruned_epsilon,
    q.margin,
    q.confidence,
    q.loss,
    t.epsilon as x,
    q.margin as y,
    i.sha512
from transitions t
join comparisons c on c.comparison_id = t.comparison_id
join measurements m using (measurement_id)
join datasets d on d.dataset_id = m.dataset_id
left join predictions q
    on q.checkpoint_id = m.checkpoint_id and q.dataset_id = m.dataset_id and q.sample_id = t.sample_id
left join pictures i on i.dataset_id = m.dataset_id and i.sample_id = t.sample_id
left join adversarial_pictures a on a.measurement_id = m.measurement_id and a.sample_id = t.sample_id
order by t.comparison_id, t.sample_id
