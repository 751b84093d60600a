-- Only for samples that this run broke with this attack: an adversarial must prove the verdict that it stands beside.
insert into adversarials
select measurement_id, sample_id, rows.adversarial
from rows
join robustness using (sample_id)
where measurement_id = $measurement_id and attack_index = $attack_index and run_id = $run_id and outcome = 'found' and not known_broken
on conflict do nothing
