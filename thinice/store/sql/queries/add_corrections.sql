-- NaN and the code 0 stand for "none" in arrays, NULL does here. What is there already stays.
insert into corrections by name
select
    $measurement_id as measurement_id,
    sample_id,
    case when coalesce(isnan(correction), true) then 'not_corrected' else 'corrected' end as outcome,
    nullif(correction, 'nan'::real) as correction,
    evaluations,
    converged,
    case when found_by > 0 then (enum_range(null::found_by))[found_by] end as found_by,
    case when failure_reason > 0 then (enum_range(null::failure_reason))[failure_reason] end as failure_reason,
    false as adopted,
    $run_id as run_id
from rows
on conflict do nothing
