-- The distances to the boundary of the pruned network of a comparison. -1 and 0 stand for NULL, which NumPy's whole numbers do not have.
select sample_id, pruned_epsilon as epsilon, (enum_code(pruned_outcome))::tinyint as outcome,
    coalesce(enum_code(pruned_found_by)::tinyint + 1, 0)::tinyint as found_by
from transitions where comparison_id = $comparison_id order by sample_id
