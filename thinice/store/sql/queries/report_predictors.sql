select lost, epsilon, margin, confidence, loss from predictors where comparison_id = $key order by sample_id
