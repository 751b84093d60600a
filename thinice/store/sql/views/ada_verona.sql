create view ada_verona as
with bounds as (
    -- one interval a sample, whatever attack and selection it is of: the nearest adversarial, the largest radius proved
    select
        m.checkpoint_id,
        d.name as data,
        d.split,
        s.sample_id,
        s.label,
        s.digest,
        max(b.epsilon_lower) as epsilon_lower,
        min(e.epsilon) as epsilon
    from lower_bounds b
    join measurements m using (checkpoint_id, dataset_id)
    join attacks a on a.attack_id = m.attack_id and a.norm = b.norm
    join datasets d on d.dataset_id = m.dataset_id
    join samples s on s.dataset_id = m.dataset_id and s.sample_id = b.sample_id
    join epsilons e on e.measurement_id = m.measurement_id and e.sample_id = b.sample_id
    where b.norm = 'linf'
    group by all
)
select
    row_number() over (order by b.checkpoint_id, b.data, b.split, b.sample_id) - 1 as "index",
    k.name as network,
    b.sample_id as image_id,
    b.label as original_label,
    k.path as network_path,
    b.epsilon_lower as epsilon_value,
    b.epsilon as smallest_sat_value,
    null::double as total_time,
    'thinice' as verifier,
    b.data,
    b.split
from bounds b
join checkpoints k using (checkpoint_id)
order by "index";
comment on view ada_verona is 'The intervals in linf as ada-verona writes its results: thinice export result_df.csv --what ada_verona.';
comment on column ada_verona."index" is 'Number of the row, from 0.';
comment on column ada_verona.network is 'Name of the network.';
comment on column ada_verona.image_id is 'Index of the sample in the untouched data set.';
comment on column ada_verona.original_label is 'True class.';
comment on column ada_verona.network_path is 'File of the network; NULL for one made in Python.';
comment on column ada_verona.epsilon_value is 'Proved: no adversarial lies within this radius.';
comment on column ada_verona.smallest_sat_value is 'Found: an adversarial lies at this radius, the nearest of all attacks; NULL where none was found.';
comment on column ada_verona.total_time is 'NULL: thinice keeps no times of single samples.';
comment on column ada_verona.verifier is 'thinice.';
comment on column ada_verona.data is 'Name of the data set, which ada-verona does not write.';
comment on column ada_verona.split is 'Part of the data set, which ada-verona does not write.';
