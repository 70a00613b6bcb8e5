"""Which trials run and for how long: proposals, pruning, promotion.

What trials have reported is kept by `tune.records`.
"""
