"""From networks and samples to results: measuring, evaluating, comparing."""
