"""Rewards: functions that score an output, each in a process of its own. No torch here."""
