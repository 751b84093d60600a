insert into imported_distances by name
select
    $model_key as model_key,
    $split as split,
    sample_id,
    distance,
    $source as source,
    $digest as digest,
    $run_id as run_id
from rows
