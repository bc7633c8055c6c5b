"""Commands for those who keep the repository: pack trained weights, write the tables of results."""
