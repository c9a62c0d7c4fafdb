"""From a source of rows to padded batches: sources, splits, tokenising, batches."""
