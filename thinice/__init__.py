"""Sample by sample: which samples pruning loses, and how close to the decision boundary they lay."""
