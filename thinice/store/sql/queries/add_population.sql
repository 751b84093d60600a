insert into populations by name
select
    $population as population,
    $role as role,
    unnest($networks::integer[]) as checkpoint_id,
    $dataset_id as dataset_id,
    $attack_id as attack_id,
    $run_id as run_id
on conflict do nothing
