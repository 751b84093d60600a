insert into gradients by name
select
    $checkpoint_id as checkpoint_id,
    $dataset_id as dataset_id,
    sample_id,
    case when isfinite(gradient_norm) then gradient_norm end as gradient_norm,
    $run_id as run_id
from rows
on conflict do nothing
