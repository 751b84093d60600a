select model_key, sample_id, distance, source from imported_distances order by model_key, sample_id
