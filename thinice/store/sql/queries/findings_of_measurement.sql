select check_name, sample_ids, looked_at, value from findings where measurement_id = $measurement_id order by rowid
