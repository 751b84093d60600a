-- NaN stands for NULL, as in arrays.
select sample_id, coalesce(correction, 'nan'::real) as correction
from corrections where measurement_id = $measurement_id order by sample_id
