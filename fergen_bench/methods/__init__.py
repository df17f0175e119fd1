"""The shipped methods as base classes for methods of one's own: `from fergen_bench.methods import cafe`.

The files of the methods lie elsewhere (`experiment.shipped`). Importing this package loads none of them, nor torch.
"""

from fergen_bench.experiment.shipped import shipped

__path__ = [str(shipped("methods"))]
