"""The members that may be blended: OOF files of trials and predictions of other tools, joined and checked.

What a member's weight is belongs in `ensemble.weighting`.
"""
