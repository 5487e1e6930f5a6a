"""EM and K-means: E- and M-steps, covariance types, starts, restarts."""
