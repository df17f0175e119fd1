"""Results of others in one file, with the methods that made them: checked, and repeated before they count."""
