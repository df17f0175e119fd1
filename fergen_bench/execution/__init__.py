"""Where runs happen: the plan, the engines that execute it, and the worker that makes one run."""
