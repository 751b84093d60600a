-- What the store knows of how a run came about; NULL where the run was not recorded so closely.
select
    runs.* exclude (seen, pid),
    folder,
    engine,
    workers,
    threads,
    batch_size,
    deterministic,
    datasets.name as data_name,
    split as data_split,
    n as data_samples,
    datasets.fingerprint as data_fingerprint,
    pid
from runs
left join run_conditions using (run_id)
left join datasets using (dataset_id)
where runs.run_id = $run_id
