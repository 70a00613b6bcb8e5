"""The pages that are read in a browser: of a run, of a blend, of a data folder. Each is one HTML file.

`page` puts a page together; its charts come from `figures`. No command line in here.
"""
