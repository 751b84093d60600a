-- NaN stands for "none" in arrays, NULL does here. Read again, a claim replaces the old one.
insert or replace into claimed_bounds by name
select
    $checkpoint_id as checkpoint_id,
    $dataset_id as dataset_id,
    $norm as norm,
    sample_id,
    $verifier as verifier,
    claimed_lower,
    nullif(claimed_upper, 'nan'::double) as claimed_upper,
    nullif(seconds, 'nan'::double) as seconds,
    $source as source,
    $run_id as run_id
from rows
