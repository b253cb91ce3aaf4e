"""Benchmarks of the speeds in the README. Most of them measure jaxdet and a peer in one run."""
