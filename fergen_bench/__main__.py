"""`python -m fergen_bench` is `fergen-bench`."""

from fergen_bench.cli import main

if __name__ == "__main__":
    main()
