select checkpoint, data, attack, norm, check_name, samples, looked_at, seen, advice
from warnings order by checkpoint, data, check_name, measurement_id
