"""What is read from runs and blends beside their pages: comparisons, tables, exports, a live view."""
