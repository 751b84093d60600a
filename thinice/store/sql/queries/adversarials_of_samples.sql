-- The adversarials of a measurement that are kept of these samples.
select sample_id, adversarial
from adversarials
where measurement_id = $measurement_id and sample_id in (select unnest($ids::bigint[]))
order by sample_id
