-- NaN, -1 and the code 0 of a stage or diagnosis stand for "none" in arrays, NULL does here. What is there already stays.
insert into epsilons by name
select
    $measurement_id as measurement_id,
    sample_id,
    (enum_range(null::outcome))[outcome + 1] as outcome,
    nullif(epsilon, 'nan'::real) as epsilon,
    nullif(prediction, -1) as prediction,
    nullif(clean_prediction, -1) as clean_prediction,
    evaluations,
    converged,
    case when stage > 0 then (enum_range(null::stage))[stage] end as stage,
    case when diagnosis > 0 then (enum_range(null::diagnosis))[diagnosis] end as diagnosis,
    false as adopted,
    $run_id as run_id
from rows
on conflict do nothing
