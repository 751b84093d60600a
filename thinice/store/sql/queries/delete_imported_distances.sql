delete from imported_distances where model_key = $model_key
