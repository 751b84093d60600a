-- Other selections of samples may hold the same ones, tried by the same attack on the same network:
-- their rows are copied, each under the run that tried it.
insert into robustness by name
select
    wanted.measurement_id,
    new.sample_id,
    r.attack,
    r.attack_index,
    r.outcome,
    r.epsilon,
    r.prediction,
    r.clean_prediction,
    r.evaluations,
    false as known_broken,
    true as adopted,
    r.run_id
from measurements wanted
join measurements other
    on other.checkpoint_id = wanted.checkpoint_id
    and other.attack_id = wanted.attack_id
    and other.dataset_id <> wanted.dataset_id
join robustness r on r.measurement_id = other.measurement_id and not r.known_broken
join samples old on old.dataset_id = other.dataset_id and old.sample_id = r.sample_id
join samples new
    on new.dataset_id = wanted.dataset_id
    and new.sample_id = old.sample_id
    and new.label = old.label
    and new.digest = old.digest
where wanted.measurement_id = $measurement_id
qualify row_number() over (partition by new.sample_id, r.attack_index order by other.measurement_id) = 1
on conflict do nothing
