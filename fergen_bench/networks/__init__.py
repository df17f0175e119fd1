"""Networks by name: loading, preprocessing, cached features and kernels."""
