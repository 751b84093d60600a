-- Other selections of samples may hold the same ones, measured by the same attack on the same network:
-- their rows are copied, each under the run that measured it.
insert into corrections by name
select wanted.measurement_id, new.sample_id, x.* exclude (measurement_id, sample_id, adopted), true as adopted
from measurements wanted
join measurements other
    on other.checkpoint_id = wanted.checkpoint_id
    and other.attack_id = wanted.attack_id
    and other.dataset_id <> wanted.dataset_id
join corrections x on x.measurement_id = other.measurement_id
join samples old on old.dataset_id = other.dataset_id and old.sample_id = x.sample_id
join samples new
    on new.dataset_id = wanted.dataset_id
    and new.sample_id = old.sample_id
    and new.label = old.label
    and new.digest = old.digest
where wanted.measurement_id = $measurement_id
qualify row_number() over (partition by new.sample_id order by other.measurement_id) = 1
on conflict do nothing
