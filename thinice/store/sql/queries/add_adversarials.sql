-- Only for epsilons that this run measured: an adversarial must prove the epsilon that it stands beside.
insert into adversarials
select measurement_id, sample_id, rows.adversarial
from rows
join epsilons using (sample_id)
where measurement_id = $measurement_id and run_id = $run_id
on conflict do nothing
