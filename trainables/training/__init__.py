"""One fold, epoch by epoch: the learner, losses, sample weights, the optimiser and weight averaging.

What all folds share belongs in `trainables.trial`, layers in `trainables.network`.
"""
