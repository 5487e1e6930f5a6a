"""Warnings of this package."""


class DegenerateWeightsWarning(UserWarning):
    """Few importance samples carry nearly all the weight of an estimate.

    ``log_likelihood`` warns where the effective sample size of a row is below 2 of 500
    draws or more: the estimate for the row may be far too low, and its standard error
    does not show it. ``sample`` warns where rows given intervals stand for fewer than
    100 draws.
    """
