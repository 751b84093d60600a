-- The runs that measured, predicted or compared something of a comparison.
select * exclude (host, pid, process_started, seen) from runs where run_id in (
    select run_id from comparisons where comparison_id = $comparison
    union all select run_id from statistics where comparison_id = $comparison
    union all select run_id from epsilons where measurement_id = $measurement
    union all select run_id from predictions where checkpoint_id = $network and dataset_id = $data
) order by run_id
