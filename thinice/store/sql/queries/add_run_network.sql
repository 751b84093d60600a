insert or replace into run_networks by name
select
    $run_id as run_id, $network as network, $checkpoint_id as checkpoint_id, $name as name, $path as path
