-- -1 stands for "no class" in arrays, NULL does here. What is there already stays.
insert into transfers by name
select $comparison_id as comparison_id, sample_id, nullif(prediction, -1) as prediction, $run_id as run_id
from rows
on conflict do nothing
