"""From files and datasets to padded batches."""
