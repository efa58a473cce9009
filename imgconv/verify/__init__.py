"""Verification: a Reader and a Plan become Findings; one module an operating system."""
