"""Outer cross-validation: whole sweeps and blends without each group of dates, scored on those dates.

The sweeps themselves belong in `tune`, blends in `ensemble`; the command is in `forage.outer_cv_command`.
"""
