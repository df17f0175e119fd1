"""An image from the prepared domain to a batch: labels, domains, splits, sources, suites, corruptions."""
