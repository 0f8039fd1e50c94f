"""groupwise: reinforcement learning for language models by comparing each answer with its siblings."""

__version__ = "0.1.0"
