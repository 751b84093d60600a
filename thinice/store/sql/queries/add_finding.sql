-- Checked again, a finding replaces the old one.
insert or replace into findings by name
select
    $measurement_id as measurement_id,
    $check as check_name,
    $raised as raised,
    $sample_ids::bigint[] as sample_ids,
    $of as looked_at,
    $value as value,
    $seen as seen,
    $advice as advice,
    $run_id as run_id
