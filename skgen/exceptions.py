"""Warnings and errors of this package."""


class DegenerateWeightsWarning(UserWarning):
    """Few importance samples carry nearly all the weight of an estimate.

    ``log_likelihood`` warns where the effective sample size of a row is below 2 of 500
    draws or more: the estimate for the row may be far too low, and its standard error
    does not show it. ``sample`` warns where rows given intervals stand for fewer than
    100 draws.
    """


class CheckpointWarning(UserWarning):
    """A fit goes on from a checkpoint, or cannot write one.

    The first says after how many epochs or iterations it goes on, and from which file.
    With the second the fit goes on, but a crash would lose what it has learned since.
    """


class DistributedError(RuntimeError):
    """A fit of several processes cannot go on: another of them has failed or left.

    Raised inside :func:`skgen.distributed.data_parallel`, in each process that waits
    for one that raised an error, was killed, or did not answer within the timeout; its
    message says which and why, where that is known.
    """
