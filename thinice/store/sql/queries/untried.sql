select position
from rows
where sample_id not in (
    select sample_id
    from robustness
    where measurement_id = $measurement_id and attack_index = $attack_index
)
order by position
