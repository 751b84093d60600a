-- Samples of a shard that the selection does not have.
select sample_id
from rows
where sample_id not in (select sample_id from samples where dataset_id = $dataset_id)
order by sample_id
limit 1
