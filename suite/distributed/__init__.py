"""Several processes: joining, sharing batches, deciding together, ending together."""
