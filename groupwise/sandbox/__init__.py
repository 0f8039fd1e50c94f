"""Running code that a model wrote: see groupwise.sandbox.base."""
