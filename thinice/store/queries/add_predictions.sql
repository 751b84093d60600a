-- NaN and -1 stand for "none" in arrays, NULL does here. What is there already stays.
insert into predictions
select
    $checkpoint_id,
    $dataset_id,
    sample_id,
    nullif(prediction, -1),
    nullif(margin, 'nan'::real),
    $run_id
from rows
on conflict do nothing
