"""The face: the command line, the demo, the report pages."""
