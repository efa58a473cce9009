"""Fuzzing the parsers that run on the host: `scripts/fuzz` looks for new faults, the tests replay
the inputs that are kept in seeds/."""
