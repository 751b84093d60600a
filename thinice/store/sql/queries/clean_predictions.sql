-- What a network makes of the clean samples of a selection; -1 stands for no class.
select sample_id, coalesce(prediction, -1) as prediction, margin, confidence, loss
from predictions where checkpoint_id = $checkpoint_id and dataset_id = $dataset_id order by sample_id
