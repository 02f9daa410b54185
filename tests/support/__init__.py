"""What tests, the demo and the benchmarks share: PostgreSQL servers and databases to work on."""
