-- The claims of other programs about one network and selection.
select sample_id, verifier, claimed_lower, claimed_upper, epsilon, epsilon_lower, lower_refuted, upper_refuted, seconds
from claims
where checkpoint_id = $checkpoint_id and dataset_id = $dataset_id
order by sample_id, verifier
