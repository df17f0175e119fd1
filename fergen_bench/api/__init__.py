"""The functions behind the command line and behind `import fergen_bench`: they return values and never read argv."""
