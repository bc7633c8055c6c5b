"""`python -m common.doctor`: what this machine can run, and how long it will take."""
