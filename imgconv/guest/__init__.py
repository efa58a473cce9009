"""The guest's disk as the rest of imgconv sees it."""
