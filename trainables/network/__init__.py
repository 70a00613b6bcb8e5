"""The network: backbone, pooling, fusion of views, head, and the coding of targets. No training in here.

Losses and optimisers belong in `trainables.training`.
"""
