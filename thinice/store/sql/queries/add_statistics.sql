-- The counts come from the samples themselves; the statistics are written into this row. Computed again, both replace
-- the old ones.
insert into statistics by name
select
    $comparison_id as comparison_id,
    count(*) filter (where transition = 'S1,1') as n_kept,
    count(*) filter (where transition = 'S1,0') as n_lost,
    count(*) filter (where transition = 'S0,1') as n_gained,
    count(*) filter (where transition = 'S0,0') as n_wrong,
    count(*) filter (where transition = 'S1,1' and outcome = 'not_found') as not_found_kept,
    count(*) filter (where transition = 'S1,0' and outcome = 'not_found') as not_found_lost,
    $notes::text[] as notes,
    $run_id as run_id,
    $now as created
from transitions
where comparison_id = $comparison_id
on conflict (comparison_id) do update set
    n_kept = excluded.n_kept,
    n_lost = excluded.n_lost,
    n_gained = excluded.n_gained,
    n_wrong = excluded.n_wrong,
    not_found_kept = excluded.not_found_kept,
    not_found_lost = excluded.not_found_lost,
    notes = excluded.notes,
    run_id = excluded.run_id,
    created = excluded.created
