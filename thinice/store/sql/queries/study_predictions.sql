-- Whether each network of a part of a study has each clean sample right.
with networks as (
    select distinct checkpoint_id, dataset_id, seed, coalesce(method, 'dense') as method, rate
    from study_cells
    where study = $study and setup = $setup and measurement_id is not null
)
select n.seed, n.method, n.rate, p.sample_id, s.label, coalesce(p.prediction = s.label, false) as correct
from networks n
join predictions p using (checkpoint_id, dataset_id)
join samples s using (dataset_id, sample_id)
where dataset_id = (select max(dataset_id) from networks)
order by n.seed, n.method, n.rate, p.sample_id
