-- An epoch that is trained again, from the beginning, replaces what was there.
insert or replace into epochs by name
select
    $training_id as training_id,
    $epoch as epoch,
    $learning_rate as learning_rate,
    $loss as loss,
    $accuracy as accuracy,
    $validation_loss as validation_loss,
    $validation_accuracy as validation_accuracy,
    $robust_accuracy as robust_accuracy,
    $seconds as seconds,
    $run_id as run_id
