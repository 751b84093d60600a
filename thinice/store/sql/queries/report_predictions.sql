select * exclude (checkpoint_id, dataset_id, prediction, run_id)
from predictions where checkpoint_id = $network and dataset_id = $data
