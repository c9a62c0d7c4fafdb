"""A run's checkpoint as a folder that is served without torch."""
