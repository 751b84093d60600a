-- The networks that a run was given, in their order; of a run that recorded none: those that its rows are about.
with touched as (
    select checkpoint_id from epsilons join measurements using (measurement_id) where epsilons.run_id = $run_id
    union
    select checkpoint_id from robustness join measurements using (measurement_id) where robustness.run_id = $run_id
    union
    select checkpoint_id from predictions where run_id = $run_id
)
select run_networks.name, run_networks.path, fingerprint, architecture, sparsity
from run_networks
join checkpoints using (checkpoint_id)
where run_networks.run_id = $run_id
union all
(
    select name, path, fingerprint, architecture, sparsity
    from checkpoints
    where checkpoint_id in (from touched) and not exists (from run_networks where run_id = $run_id)
    order by checkpoint_id
)
