"""One recipe on all folds in lock-step: the trial, its fold executor and the files it leaves.

How one fold is trained belongs in `trainables.training`, scheduling on Ray in `tune.cluster`.
"""
