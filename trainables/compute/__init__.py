"""Devices, memory and processes: precision, smaller batches after out-of-memory, prefetching, process groups.

Nothing in here knows of recipes, photographs or targets, apart from the recipe fields that configure it.
"""
