select position
from rows
where sample_id not in (select sample_id from corrections where measurement_id = $measurement_id)
order by position
