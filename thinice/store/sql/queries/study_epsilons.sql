-- The distances that attacks of a part of a study found. NaN stands for not found, 0 for wrong already.
with measured as (
    select distinct measurement_id, dataset_id, seed, coalesce(method, 'dense') as method, rate, attack, norm::text as norm
    from study_cells
    where study = $study and setup = $setup and measurement_id is not null
)
select
    m.seed, m.method, m.rate, m.attack, m.norm, e.sample_id,
    case when e.clean_prediction is null then 0 else coalesce(e.epsilon, 'nan'::real) end as epsilon
from measured m
join epsilons e using (measurement_id)
where m.dataset_id = (select max(dataset_id) from measured)
order by m.seed, m.method, m.rate, m.attack, m.norm, e.sample_id
