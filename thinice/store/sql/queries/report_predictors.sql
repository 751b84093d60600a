select lost, epsilon, margin, confidence, loss, gradient_norm from predictors where comparison_id = $key order by sample_id
