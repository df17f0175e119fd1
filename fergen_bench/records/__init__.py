"""The stored results of runs: what identifies a run, what it scored, files, tables, verification, the MLflow mirror."""
