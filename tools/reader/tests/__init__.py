"""Tests of the reader. `writer` seals what they restore; the vectors were sealed by another program."""
