"""Files: atomic writes, bounded reads, YAML, and a pool of processes."""
