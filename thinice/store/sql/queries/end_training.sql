update trainings
set checkpoint_id = $checkpoint_id, chosen_epoch = $chosen_epoch, notes = $notes::text[]
where training_id = $training_id
