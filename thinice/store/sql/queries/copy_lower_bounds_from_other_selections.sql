-- Other selections of samples may hold the same ones: what was proved of them for the same network is copied.
insert into lower_bounds by name
select b.checkpoint_id, new.dataset_id, b.norm, new.sample_id, b.epsilon_lower, true as adopted, b.run_id
from lower_bounds b
join samples old on old.dataset_id = b.dataset_id and old.sample_id = b.sample_id
join samples new
    on new.dataset_id = $dataset_id
    and new.sample_id = old.sample_id
    and new.label = old.label
    and new.digest = old.digest
where b.checkpoint_id = $checkpoint_id and b.norm = $norm and b.dataset_id <> $dataset_id
qualify row_number() over (partition by new.sample_id order by b.epsilon_lower desc, b.dataset_id) = 1
on conflict do nothing
