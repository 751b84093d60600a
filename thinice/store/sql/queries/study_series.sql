-- One series for each architecture, data set, budget and attack.
select
    r.checkpoint as network, k.sparsity, r.decided as samples, r.clean_accuracy as clean, r.robust_accuracy as robust,
    concat_ws(' ', k.architecture, r.data, r.attack, r.norm, printf('%.6g', r.budget)) as series
from robust_accuracy r
join measurements m using (measurement_id)
join checkpoints k on k.checkpoint_id = m.checkpoint_id
where r.decided = r.n  -- of a run that ended early, those that fell are decided first
order by series, k.sparsity
