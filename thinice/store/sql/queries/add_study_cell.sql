-- Written again, a cell has its newest answer.
insert or replace into study_cells by name
select
    $study as study,
    $cell as cell,
    $setup as setup,
    $architecture as architecture,
    $data as data,
    $training as training,
    $method as method,
    $rate as rate,
    $seed as seed,
    $attack as attack,
    $norm as norm,
    $budget as budget,
    m.checkpoint_id,
    m.dataset_id,
    m.measurement_id,
    $error as error,
    $run_id as run_id,
    $now as updated
from (select 1)
left join measurements m on m.measurement_id = $measurement_id
