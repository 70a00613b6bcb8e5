"""Which recipes are tried: proposals by Optuna, warm starts, confirmations.

For how long a trial runs belongs in `tune.pruning`, what trials have reported in `tune.records`.
"""
