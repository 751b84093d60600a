-- The verdicts of a measurement at a budget; -1 stands for no verdict of this attack alone.
select sample_id, robust, coalesce(broken_by, '') as broken_by, epsilon, known_broken,
    coalesce(robust_to_this_attack::tinyint, -1) as alone, evaluations
from verdicts where measurement_id = $measurement_id order by sample_id
