"""The run directory as the driver sees it: ledger, plan, exclusive lock, retention of files, progress, stopping.

Nothing in here knows of Ray's processes.
"""
