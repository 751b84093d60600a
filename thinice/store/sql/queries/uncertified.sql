select position
from rows
where sample_id not in (
    select sample_id
    from lower_bounds
    where checkpoint_id = $checkpoint_id and dataset_id = $dataset_id and norm = $norm
)
order by position
