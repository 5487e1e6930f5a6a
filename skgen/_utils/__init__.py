"""Helpers that know no model: tensors, chunks of rows, parameter rules."""
