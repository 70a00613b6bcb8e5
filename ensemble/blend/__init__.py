"""The blend folder: building it, reading it, predicting with it, refitting it, writing a submission.

How members are weighted belongs in `ensemble.weighting`.
"""
