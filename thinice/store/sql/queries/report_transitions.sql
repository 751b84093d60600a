select sample_id, transition::text as transition, pruned_prediction, pruned_epsilon
from transitions where comparison_id = $key
