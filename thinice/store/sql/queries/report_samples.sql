select * from samples where dataset_id = $key order by sample_id
