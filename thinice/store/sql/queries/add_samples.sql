insert into samples
select $dataset_id, sample_id, label, digest, source from rows
on conflict do nothing
