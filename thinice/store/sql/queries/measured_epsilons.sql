-- What the attack of a measurement found. -1 and 0 stand for NULL, which NumPy's whole numbers do not have.
select sample_id, epsilon, (enum_code(outcome))::tinyint as outcome, coalesce(prediction, -1) as prediction,
    coalesce(clean_prediction, -1) as clean_prediction, evaluations, coalesce(converged, false) as converged,
    coalesce(enum_code(stage)::tinyint + 1, 0)::tinyint as stage,
    coalesce(enum_code(diagnosis)::tinyint + 1, 0)::tinyint as diagnosis
from epsilons where measurement_id = $measurement_id order by sample_id
