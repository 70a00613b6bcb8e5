"""Where the biomass is: grams per cell of a photograph, by a blend's members with a density head, and pictures of them.

Imports only `ensemble.blend` and the packages below it.
"""
