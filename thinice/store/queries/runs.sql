-- The runs, the newest last, with the number of epsilons that each measured.
select
    run_id,
    started,
    ended,
    epoch(coalesce(ended, seen) - started) as seconds,
    outcome,
    command,
    device,
    seed,
    coalesce(measured.samples, 0) as samples,
    error,
    host,
    pid,
    process_started
from runs
left join (select run_id, count(*) as samples from epsilons group by run_id) as measured using (run_id)
order by run_id
