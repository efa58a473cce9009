"""Windows guests: drivers, registry, and the proof that they start."""
