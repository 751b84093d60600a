-- All adversarials of a measurement, and the shape of each.
select sample_id, adversarial, shape
from adversarials join measurements using (measurement_id) join datasets using (dataset_id)
where measurement_id = $measurement_id order by sample_id
