select setup, method, rate, seed, attack, norm::text as norm, budget, n, clean_accuracy, robust_accuracy, sparsity, error
from cells where study = $study
