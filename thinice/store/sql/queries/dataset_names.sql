-- Selections of samples, with the number of entries of one input.
select dataset_id, name, split, list_product(shape)::bigint as entries from datasets
