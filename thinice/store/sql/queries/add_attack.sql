insert into attacks by name
select
    $fingerprint as fingerprint,
    $name as name,
    $norm as norm,
    $settings as settings,
    $run_id as run_id,
    $now as created
where not exists (from attacks where fingerprint = $fingerprint)
