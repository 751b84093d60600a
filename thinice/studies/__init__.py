"""Studies: results of many networks beside each other, and beside what papers report."""
