"""Choice of the recipes to try: proposals by Optuna, warm starts, confirmations.

Decisions on how long a trial runs belong in `tune.pruning`, reports of trials in `tune.records`.
"""
