"""Columns of tables: names, dtypes, and encodings as numbers."""
