insert into checkpoints by name
select
    $fingerprint as fingerprint,
    $name as name,
    $path as path,
    $architecture as architecture,
    $classes as classes,
    $class_names::text[] as class_names,
    $sparsity as sparsity,
    $weights as weights,
    $data as data,
    $normalization as normalization,
    $notes::text[] as notes,
    $parent as parent,
    $run_id as run_id,
    $now as created
where not exists (from checkpoints where fingerprint = $fingerprint)
