select * exclude (measurement_id, run_id, adopted) from epsilons where measurement_id = $key
