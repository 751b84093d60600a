-- How many samples of a selection an attack is done with on a network; none where any of the three is unknown.
with wanted as (
    select m.measurement_id
    from measurements m
    join checkpoints k using (checkpoint_id)
    join datasets d using (dataset_id)
    join attacks a using (attack_id)
    where k.fingerprint = $checkpoint and d.fingerprint = $samples and a.fingerprint = $attack
)
select
    (select count(*) from epsilons join wanted using (measurement_id))
    + (select count(robust_to_this_attack) from verdicts join wanted using (measurement_id)) as finished
