"""The pages that are read in a browser: of a run, of a blend, of a data folder. Each is one HTML file.

`page` puts a page together, `charts` has what all figures share. No command line in here.
"""
