insert into controls by name
select
    $comparison_id as comparison_id,
    $network as network,
    $checkpoint_id as checkpoint_id,
    $scale::double as scale,
    $seed::bigint as seed,
    $run_id as run_id
