"""Other programs that tests and benchmarks start and end: any program with all that it starts, and a browser."""
