"""Encoders, decoders, codebooks, priors over tokens."""
