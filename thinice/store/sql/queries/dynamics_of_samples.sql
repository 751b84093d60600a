-- What the samples of a selection did while a network was trained; only those that it was trained on, by their content.
select wanted.sample_id, forgotten, confidence_mean, confidence_variance
from samples wanted
join (
    select max(training_id) as training_id
    from trainings
    join checkpoints using (checkpoint_id)
    where checkpoints.fingerprint = $checkpoint
) as latest on true
join trainings on trainings.training_id = latest.training_id
join samples seen on seen.dataset_id = trainings.dataset_id
    and seen.sample_id = wanted.sample_id
    and seen.digest = wanted.digest
join dynamics on dynamics.training_id = latest.training_id and dynamics.sample_id = seen.sample_id
where wanted.dataset_id = $dataset_id
order by wanted.sample_id
