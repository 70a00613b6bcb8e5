"""What a blend is worth on dates it was not fitted to: nested score, interval, conformal bounds, worth of TTA.

Choosing weights belongs in `ensemble.weighting`.
"""
