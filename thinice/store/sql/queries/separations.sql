-- Comparisons that have an AUC, with what its interval at any level is made of.
select pruned, dense, data, norm, basis, n_kept, n_lost, auc, auc_se, auc_df, auc_low
from separation
where auc is not null
order by comparison_id
