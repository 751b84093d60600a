-- The counts come from the samples themselves, the statistics from the caller; computed again, they replace
-- the old ones.
insert or replace into statistics by name
select
    $comparison_id as comparison_id,
    count(*) filter (where transition = 'S1,1') as n_kept,
    count(*) filter (where transition = 'S1,0') as n_lost,
    count(*) filter (where transition = 'S0,1') as n_gained,
    count(*) filter (where transition = 'S0,0') as n_wrong,
    count(*) filter (where transition = 'S1,1' and outcome = 'not_found') as not_found_kept,
    count(*) filter (where transition = 'S1,0' and outcome = 'not_found') as not_found_lost,
    $auc as auc,
    $auc_low as auc_low,
    $auc_high as auc_high,
    $confidence as confidence,
    $u as u,
    $p_value as p_value,
    $log10_p as log10_p,
    $p_value_two_sided as p_value_two_sided,
    $log10_p_two_sided as log10_p_two_sided,
    $exact as exact,
    $median_kept as median_kept,
    $median_lost as median_lost,
    $shift as shift,
    $cliffs_delta as cliffs_delta,
    $notes::text[] as notes,
    $run_id as run_id,
    $now as created
from transitions
where comparison_id = $comparison_id
