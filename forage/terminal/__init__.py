"""What commands share: arguments and options, messages, tables, progress bars, checks of words and files."""
