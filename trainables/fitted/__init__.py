"""Heads that are fitted in one go instead of trained epoch by epoch: ridge regression and boosted trees.

Heads that are networks belong in `trainables.network`.
"""
