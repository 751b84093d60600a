-- NaN, -1 and the code 0 of found_by and failure_reason stand for "none" in arrays, NULL does here. What is there already stays.
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
    case when found_by > 0 then (enum_range(null::found_by))[found_by] end as found_by,
    case when failure_reason > 0 then (enum_range(null::failure_reason))[failure_reason] end as failure_reason,
    false as adopted,
    $run_id as run_id
from rows
on conflict do nothing
