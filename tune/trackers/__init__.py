"""Trackers: what a sweep shows in TensorBoard, W&B, MLflow and CSV files, live or afterwards.

They read the records of trials. The ledger, from which a sweep is resumed, belongs in `tune.records`.
"""
