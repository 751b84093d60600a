-- What a run put into the store: rows of samples, by what they say, network and attack.
select what, name as network, attack, norm, samples
from (
    select 'epsilons' as what, checkpoint_id, attack_id, count(*) as samples
    from epsilons join measurements using (measurement_id) where epsilons.run_id = $run_id and not adopted group by all
    union all
    select 'robustness', checkpoint_id, attack_id, count(distinct sample_id)
    from robustness join measurements using (measurement_id)
    where robustness.run_id = $run_id and not adopted and not known_broken group by all
    union all
    select 'corrections', checkpoint_id, attack_id, count(*)
    from corrections join measurements using (measurement_id)
    where corrections.run_id = $run_id and not adopted group by all
    union all
    select 'lower bounds', checkpoint_id, null, count(*)
    from lower_bounds where run_id = $run_id and not adopted group by all
    union all
    select 'predictions', checkpoint_id, null, count(*) from predictions where run_id = $run_id group by all
)
join (select checkpoint_id, name from checkpoints) using (checkpoint_id)
left join (select attack_id, name as attack, norm from attacks) using (attack_id)
order by what, checkpoint_id, attack_id
