"""Data: batches, splits, one-hot labels, data sets, tables."""
