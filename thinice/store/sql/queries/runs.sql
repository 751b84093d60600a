-- The runs, the newest last, with the number of samples whose epsilons each measured, or that it attacked at a budget.
select
    run_id,
    -- no clock says infinity: such a time is unknown
    if(isfinite(started), started, null) as started,
    if(isfinite(ended), ended, null) as ended,
    case
        when isfinite(started) and isfinite(coalesce(ended, seen))
            then greatest(epoch(coalesce(ended, seen) - started), 0)
    end as seconds,
    outcome,
    command,
    device,
    seed,
    coalesce(measured.samples, 0)::bigint as samples,
    error,
    host,
    pid,
    process_started
from runs
left join (
    -- a row adopted by another selection keeps the run that measured it: the fullest selection has them all
    select run_id, sum(samples) as samples
    from (
        select run_id, max(samples) as samples
        from (
            select run_id, measurement_id, count(*) as samples from epsilons group by all
            union all
            select run_id, measurement_id, count(distinct sample_id) from robustness where not known_broken group by all
        )
        join (select measurement_id, checkpoint_id, attack_id from measurements) using (measurement_id)
        group by checkpoint_id, attack_id, run_id
    )
    group by run_id
) as measured using (run_id)
order by run_id
