-- NaN and -1 stand for "none" in arrays, NULL does here. What is there already stays.
insert into robustness by name
select
    $measurement_id as measurement_id,
    sample_id,
    $attack as attack,
    $attack_index as attack_index,
    (enum_range(null::outcome))[outcome + 1] as outcome,
    nullif(epsilon, 'nan'::real) as epsilon,
    nullif(prediction, -1) as prediction,
    nullif(clean_prediction, -1) as clean_prediction,
    evaluations,
    false as known_broken,
    false as adopted,
    $run_id as run_id
from rows
on conflict do nothing
