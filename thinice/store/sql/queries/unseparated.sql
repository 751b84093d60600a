-- Comparisons whose interval of the AUC reaches 0.5.
select pruned, dense, data, norm, basis, auc, auc_low from separation where auc_low <= 0.5 order by comparison_id
