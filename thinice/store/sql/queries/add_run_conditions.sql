insert or replace into run_conditions by name
select
    $run_id as run_id,
    $dataset_id as dataset_id,
    $folder as folder,
    $engine as engine,
    $workers as workers,
    $threads as threads,
    $batch_size as batch_size,
    $deterministic as deterministic
