"""Rewards under suspicion: attacked, looked for oddities in a run, and held against another reward. Trains nothing."""
