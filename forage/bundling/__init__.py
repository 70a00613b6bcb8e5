"""`forage bundle`: a folder with a blend, wheels and a notebook, for a machine that has no network."""
