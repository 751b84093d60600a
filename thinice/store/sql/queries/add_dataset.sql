insert into datasets by name
select
    $fingerprint as fingerprint,
    $name as name,
    $split as split,
    $n as n,
    $shape::integer[] as shape,
    $classes::text[] as classes,
    $run_id as run_id,
    $now as created
where not exists (from datasets where fingerprint = $fingerprint)
