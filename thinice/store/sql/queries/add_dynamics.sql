insert or replace into dynamics by name
select
    $training_id as training_id,
    sample_id,
    epochs,
    forgotten,
    learned,
    confidence_mean,
    confidence_variance,
    $run_id as run_id
from rows
