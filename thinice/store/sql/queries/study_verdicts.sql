-- Which samples attacks of a part of a study leave robust at their budgets.
with measured as (
    select measurement_id, dataset_id, seed, coalesce(method, 'dense') as method, rate, attack, norm::text as norm, budget
    from study_cells
    where study = $study and setup = $setup and measurement_id is not null
)
select m.seed, m.method, m.rate, m.attack, m.norm, m.budget, v.sample_id, v.robust_to_this_attack as robust
from measured m
join verdicts v using (measurement_id)
where m.dataset_id = (select max(dataset_id) from measured) and v.robust_to_this_attack is not null
order by m.seed, m.method, m.rate, m.attack, m.norm, m.budget, v.sample_id
