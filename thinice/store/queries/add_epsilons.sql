-- NaN and -1 stand for "none" in arrays, NULL does here. What is there already stays.
insert into epsilons
select
    $measurement_id,
    sample_id,
    (enum_range(null::outcome))[outcome + 1],
    nullif(epsilon, 'nan'::real),
    nullif(prediction, -1),
    nullif(clean_prediction, -1),
    evaluations,
    false,
    $run_id
from rows
on conflict do nothing
