"""Estimates of a blend on dates it was not fitted to: nested score, interval, conformal bounds, gain by TTA.

The choice of weights belongs in `ensemble.weighting`.
"""
