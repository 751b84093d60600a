select comparison_id, dense, pruned, data, norm, n, n_lost, auc
from (from separation order by comparison_id desc limit 5)
order by comparison_id
