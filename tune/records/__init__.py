"""The run directory as the driver sees it: ledger, plan, exclusive lock, retention of files, progress, stopping.

No module in here uses Ray's processes.
"""
