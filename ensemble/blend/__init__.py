"""The blend folder: building it, reading it, copying the models of its members into it, refitting them.

How members are weighted belongs in `ensemble.weighting`, what a blend does with photographs in `ensemble.prediction`.
"""
