"""Read the project, its settings, protocols and method files, without torch."""
