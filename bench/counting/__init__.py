"""Counting operations: one counter, several conventions, and the counts of other libraries beside them."""
