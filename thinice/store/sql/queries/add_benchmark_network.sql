-- Measured again, a network has its newest parts.
insert or replace into benchmark_networks by name
select
    c.pruned_checkpoint_id as checkpoint_id,
    m.checkpoint_id as dense_checkpoint_id,
    m.dataset_id,
    $protocol as protocol,
    $method as method,
    $entry as entry,
    $model_key as model_key,
    $structure as structure,
    $removed_share as removed_share,
    $layers as layers,
    c.comparison_id,
    r.comparison_id as robust_comparison_id,
    $autoattack_id as autoattack_id,
    $ho_fmn_id as ho_fmn_id,
    $run_id as run_id,
    $now as updated
from measurements m
join comparisons c on c.measurement_id = m.measurement_id and c.basis = 'clean'
join comparisons r
    on r.measurement_id = m.measurement_id and r.pruned_checkpoint_id = c.pruned_checkpoint_id
    and r.pruned_verdicts = $autoattack_id
join measurements a on a.measurement_id = $autoattack_id and a.checkpoint_id = c.pruned_checkpoint_id
where m.measurement_id = $measurement_id
