insert or replace into published_accuracies by name
select
    $method as method,
    $architecture as architecture,
    $data as data,
    $structure as structure,
    $sparsity as sparsity,
    $clean_accuracy as clean_accuracy,
    $robust_accuracy as robust_accuracy,
    $n as n,
    $budget as budget,
    $source as source,
    $run_id as run_id
