"""What a run hands over: each file writes the pruned model in one form, and proves it."""
