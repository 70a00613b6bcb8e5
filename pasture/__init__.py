"""The domain: photographs of pasture, their five dry weights, the metric, the folds, the OOF table.

Imports neither torch nor Ray; every other package imports this one.
"""
