update runs
set
    outcome = $outcome,
    error = $error,
    -- a clock that was put back does not end a run before it began
    ended = greatest(started, $now),
    seen = greatest(seen, $now)
where run_id = $run_id
