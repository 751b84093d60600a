-- NaN and -1 stand for "none" in arrays, NULL does here. What is there already stays; what it lacks is filled in.
insert into predictions by name
select
    $checkpoint_id as checkpoint_id,
    $dataset_id as dataset_id,
    sample_id,
    nullif(prediction, -1) as prediction,
    nullif(margin, 'nan'::real) as margin,
    nullif(confidence, 'nan'::double) as confidence,
    nullif(loss, 'nan'::real) as loss,
    $run_id as run_id
from rows
on conflict (checkpoint_id, dataset_id, sample_id) do update set
    margin = coalesce(predictions.margin, excluded.margin),
    confidence = excluded.confidence,
    loss = excluded.loss
where predictions.loss is null and excluded.loss is not null
