"""Measures this package beside other Python task queues: `make bench`, explained in benchmarks/README.md."""
