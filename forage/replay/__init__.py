"""Replay of sweeps from a table of trained recipes: the search decides as it does on Ray, on a simulated clock.

Training the recipes of a table belongs in `forage.outer_cv` and `tune`.
"""
