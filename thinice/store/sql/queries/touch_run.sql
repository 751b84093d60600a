update runs
set seen = greatest(seen, $now)
where run_id = $run_id
