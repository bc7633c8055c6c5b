"""Where the data comes from: prepare.py checks downloaded sets, synthetic.py draws small ones."""
