insert into tunings by name
select
    $fingerprint as fingerprint,
    $checkpoint as checkpoint,
    $samples as samples,
    $attack as attack,
    $norm as norm,
    $asked as asked,
    $settings as settings,
    $median as "median",
    $default_median as default_median,
    $n as n,
    $run_id as run_id,
    $now as created
where not exists (from tunings where fingerprint = $fingerprint)
