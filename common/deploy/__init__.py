"""Export for deployment, and the compiled inference engine."""
