-- Other selections of samples may hold the same ones, predicted by the same network: their rows are copied,
-- each under the run that predicted it; one with a loss, then one with a margin, before one without.
insert into predictions by name
select
    p.checkpoint_id, new.dataset_id, new.sample_id, p.prediction, p.margin, p.confidence, p.loss, p.run_id
from predictions p
join samples old on old.dataset_id = p.dataset_id and old.sample_id = p.sample_id
join samples new
    on new.dataset_id = $dataset_id
    and new.sample_id = old.sample_id
    and new.label = old.label
    and new.digest = old.digest
where p.checkpoint_id = $checkpoint_id and p.dataset_id <> $dataset_id
qualify row_number() over (
    partition by new.sample_id
    order by p.loss is null, p.margin is null, p.dataset_id
) = 1
on conflict do nothing
