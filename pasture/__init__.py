"""The domain: photographs of pasture, their five dry weights, the metric, the folds, the OOF table.

No torch and no ray in here: everything above stands on this package.
"""
