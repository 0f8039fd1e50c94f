"""Programs that a model wrote, judged by tests: see groupwise.rewards.code."""
