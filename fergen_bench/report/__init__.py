"""Records → tables and plots. Reads records only, never loads torch, and is the only place that imports seaborn."""
