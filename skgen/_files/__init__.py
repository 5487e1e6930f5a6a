"""The bytes of files: models and checkpoints, in a format that holds no code."""
