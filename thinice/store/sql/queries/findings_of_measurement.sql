select check_name, raised, sample_ids, looked_at, value, seen, advice from findings where measurement_id = $measurement_id order by rowid
