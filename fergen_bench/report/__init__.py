"""Records → tables and plots. Reads records only, never loads torch, and is the only place that imports seaborn.

`fergen_bench.report(results)` calls the function `fergen_bench.api.report.report`, which writes a report.
"""
