update runs
set outcome = $outcome, error = $error, ended = $now, seen = $now
where run_id = $run_id
