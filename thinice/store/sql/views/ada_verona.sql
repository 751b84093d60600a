create view ada_verona as
select
    row_number() over (order by i.measurement_id, i.sample_id) - 1 as "index",
    i.checkpoint as network,
    i.sample_id as image_id,
    i.label as original_label,
    k.path as network_path,
    i.epsilon_lower as epsilon_value,
    i.epsilon as smallest_sat_value,
    null::double as total_time,
    'thinice' as verifier
from intervals i
join measurements m using (measurement_id)
join checkpoints k using (checkpoint_id)
where i.norm = 'linf';
comment on view ada_verona is 'The intervals in linf as ada-verona writes its results: thinice export result_df.csv --what ada_verona.';
comment on column ada_verona."index" is 'Number of the row, from 0.';
comment on column ada_verona.network is 'Name of the network.';
comment on column ada_verona.image_id is 'Index of the sample in the untouched data set.';
comment on column ada_verona.original_label is 'True class.';
comment on column ada_verona.network_path is 'File of the network; NULL for one made in Python.';
comment on column ada_verona.epsilon_value is 'Proved: no adversarial lies within this radius.';
comment on column ada_verona.smallest_sat_value is 'Found: an adversarial lies at this radius; NULL where none was found.';
comment on column ada_verona.total_time is 'NULL: thinice keeps no times of single samples.';
comment on column ada_verona.verifier is 'thinice.';
