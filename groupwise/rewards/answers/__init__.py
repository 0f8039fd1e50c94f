"""What a final answer is, and when two of them are equal. Rules and examples: docs/verdicts.md."""
