-- Ranges of sample_id that hold about $rows rows of attack_results each.
with counted as (
    select sample_id, count(*) as rows
    from (select measurement_id, sample_id from epsilons union all select measurement_id, sample_id from robustness)
    join measurements using (measurement_id)
    where $measurement_id is null
        or checkpoint_id = (select checkpoint_id from measurements where measurement_id = $measurement_id)
    group by sample_id
)
select min(sample_id) as first, max(sample_id) as last
from (select sample_id, sum(rows) over (order by sample_id) // $rows as part from counted)
group by part
order by part
