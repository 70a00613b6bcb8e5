"""Choosing members and their weights: greedy selection, convex weights, stacking, and nested evaluation.

Reading members from disk belongs in `ensemble.members`.
"""
