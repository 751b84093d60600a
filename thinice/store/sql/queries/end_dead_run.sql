-- A process that is gone without a word: its run ended when it last wrote.
update runs
set outcome = 'died', ended = seen
where run_id = $run_id
