insert into trainings by name
select
    $fingerprint as fingerprint,
    $name as name,
    $dataset_id as dataset_id,
    $architecture as architecture,
    $objective as objective,
    $recipe as recipe,
    $parent as parent,
    $run_id as run_id,
    $now as created
where not exists (from trainings where fingerprint = $fingerprint)
