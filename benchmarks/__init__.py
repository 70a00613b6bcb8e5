"""Side-by-side measurements: each script prints rows of one table, each row a ratio measured in one run.

python -m benchmarks                    the whole table (`make bench`)
python -m benchmarks.selection          the rows of one script
"""
