select sample_id, transition::text as transition, pruned_prediction, pruned_epsilon, pruned_epsilon_lower
from transitions where comparison_id = $key
