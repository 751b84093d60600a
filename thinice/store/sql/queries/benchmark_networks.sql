select
    k.checkpoint_id,
    b.dataset_id,
    k.name as network,
    k.path,
    k.fingerprint,
    k.architecture,
    k.normalization::text as normalization,
    dense.name as dense,
    dense.fingerprint as dense_fingerprint,
    d.name as data,
    d.split,
    d.fingerprint as samples,
    b.protocol::text as protocol,
    b.method,
    b.entry::text as entry,
    b.model_key,
    b.structure,
    b.removed_share,
    b.layers::text as layers,
    a.settings::text as attack_settings,
    h.settings::text as ho_fmn_settings,
    b.comparison_id,
    b.robust_comparison_id,
    b.autoattack_id,
    b.ho_fmn_id,
    r.versions::text as versions,
    l.clean_accuracy,
    l.robust_accuracy,
    l.low,
    l.high,
    l.area
from benchmark_networks b
join checkpoints k using (checkpoint_id)
join checkpoints dense on dense.checkpoint_id = b.dense_checkpoint_id
join datasets d using (dataset_id)
join measurements ma on ma.measurement_id = b.autoattack_id
join attacks a on a.attack_id = ma.attack_id
join measurements mh on mh.measurement_id = b.ho_fmn_id
join attacks h on h.attack_id = mh.attack_id
join runs r on r.run_id = b.run_id
left join leaderboard l on l.comparison_id = b.comparison_id and l.autoattack_id = b.autoattack_id
order by b.model_key, k.name, b.updated
