"""What a user asks for, without torch: the project, its settings, protocols and method files."""
