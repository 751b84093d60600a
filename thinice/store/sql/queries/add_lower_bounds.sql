-- What is there already stays.
insert into lower_bounds by name
select
    $checkpoint_id as checkpoint_id,
    $dataset_id as dataset_id,
    $norm as norm,
    sample_id,
    epsilon_lower,
    false as adopted,
    $run_id as run_id
from rows
on conflict do nothing
