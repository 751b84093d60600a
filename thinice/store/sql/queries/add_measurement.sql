insert into measurements by name
select
    $checkpoint_id as checkpoint_id,
    $dataset_id as dataset_id,
    $attack_id as attack_id,
    $run_id as run_id,
    $now as created
where not exists (
    from measurements
    where checkpoint_id = $checkpoint_id and dataset_id = $dataset_id and attack_id = $attack_id
)
