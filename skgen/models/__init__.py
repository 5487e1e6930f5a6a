"""The estimators: one file a family, its mathematics above, the estimator below."""
