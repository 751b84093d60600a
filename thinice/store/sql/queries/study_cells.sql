-- Finished cells by their hashes, of any study: what decides their results is in the hash.
select study, cell, setup, measurement_id
from study_cells
where error is null and cell in (select unnest($ids::text[]))
