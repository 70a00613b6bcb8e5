"""Which trials run and for how long: proposals by Optuna, ASHA, promotion.

What trials have reported is kept by `tune.records`.
"""
