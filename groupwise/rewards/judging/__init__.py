"""Rewards by a judge: a language model that reads a rubric and the output."""
