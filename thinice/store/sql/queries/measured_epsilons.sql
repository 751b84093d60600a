-- What the attack of a measurement found. -1 and 0 stand for NULL, which NumPy's whole numbers do not have.
select sample_id, epsilon, (enum_code(outcome))::tinyint as outcome, coalesce(prediction, -1) as prediction,
    coalesce(clean_prediction, -1) as clean_prediction, evaluations, converged,
    coalesce(enum_code(found_by)::tinyint + 1, 0)::tinyint as found_by,
    coalesce(enum_code(failure_reason)::tinyint + 1, 0)::tinyint as failure_reason
from epsilons where measurement_id = $measurement_id order by sample_id
