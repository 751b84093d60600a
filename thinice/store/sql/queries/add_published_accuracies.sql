insert into published_accuracies by name
select
    method,
    architecture,
    data,
    structure,
    sparsity,
    clean_accuracy,
    robust_accuracy,
    $n as n,
    $budget as budget,
    $source as source,
    $run_id as run_id
from rows
where not exists (from published_accuracies)
