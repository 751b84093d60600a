-- Samples that the attack at an index of an ensemble broke, or that were wrong from the start.
select sample_id
from robustness
where measurement_id = $measurement_id and attack_index = $attack_index and (outcome <> 'not_found' or clean_prediction is null)
