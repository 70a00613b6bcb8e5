"""What one trial does: a recipe, its views, backbone, head, loss and optimiser, trained on all folds in lock-step.

Only `trainables.ray_trial` may import ray, so that a fold trains and predicts without it.
"""
