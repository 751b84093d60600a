select position
from rows
where sample_id not in (
    select sample_id from gradients where checkpoint_id = $checkpoint_id and dataset_id = $dataset_id
)
order by position
