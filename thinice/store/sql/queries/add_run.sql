insert into runs by name
select
    $command::text[] as command,
    $versions as versions,
    $device as device,
    $precision as "precision",
    $seed as seed,
    $settings as settings,
    $now as started,
    $now as seen,
    $host as host,
    $pid as pid,
    $process_started as process_started
returning run_id
