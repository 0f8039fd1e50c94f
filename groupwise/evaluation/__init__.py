"""What `groupwise eval` and `groupwise sample` do: a model is asked without being trained."""
