-- The dense network's adversarials that are kept and were not shown to the pruned network yet.
select position
from rows
where sample_id in (
    select w.sample_id
    from comparisons
    join adversarials w using (measurement_id)
    where comparison_id = $comparison_id
)
and sample_id not in (select sample_id from transfers where comparison_id = $comparison_id)
order by position
