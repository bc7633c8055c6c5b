"""`python -m common.doctor`: what this machine can run, and the next command."""
