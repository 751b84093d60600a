-- Samples that other measurements have broken already.
select sample_id
from robustness
where measurement_id = $measurement_id and known_broken
