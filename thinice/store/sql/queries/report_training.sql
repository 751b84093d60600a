-- The learning curves of the latest training that a network came out of, and the epoch whose weights it has.
select epochs.*, chosen_epoch, notes
from (select max(training_id) as training_id from trainings where checkpoint_id = $network) as latest
join trainings using (training_id)
join epochs using (training_id)
order by epoch
