-- The adversarials of adopted verdicts.
insert into adversarials
select wanted.measurement_id, w.sample_id, w.adversarial
from measurements wanted
join measurements other
    on other.checkpoint_id = wanted.checkpoint_id
    and other.attack_id = wanted.attack_id
    and other.dataset_id <> wanted.dataset_id
join adversarials w on w.measurement_id = other.measurement_id
join robustness theirs on theirs.measurement_id = other.measurement_id and theirs.sample_id = w.sample_id
join robustness ours
    on ours.measurement_id = wanted.measurement_id
    and ours.sample_id = w.sample_id
    and ours.attack_index = theirs.attack_index
    and ours.run_id = theirs.run_id
    and ours.epsilon = theirs.epsilon
where wanted.measurement_id = $measurement_id and ours.adopted and not theirs.known_broken
qualify row_number() over (partition by w.sample_id order by other.measurement_id) = 1
on conflict do nothing
