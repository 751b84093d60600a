-- A prediction without a loss lacks something, unless there is no prediction either: its logits are no numbers.
select position
from rows
where sample_id not in (
    select sample_id
    from predictions
    where checkpoint_id = $checkpoint_id and dataset_id = $dataset_id and (loss is not null or prediction is null)
)
order by position
