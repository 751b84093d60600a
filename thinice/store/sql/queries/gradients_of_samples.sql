select sample_id, gradient_norm
from gradients where checkpoint_id = $checkpoint_id and dataset_id = $dataset_id order by sample_id
