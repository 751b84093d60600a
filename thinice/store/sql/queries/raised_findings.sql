select checkpoint, data, attack, norm, indicator, samples, looked_at, seen, advice
from warnings order by checkpoint, data, indicator, measurement_id
