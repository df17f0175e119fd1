"""Atomic writes, bounded reads, TOML, YAML and a pool of processes."""
