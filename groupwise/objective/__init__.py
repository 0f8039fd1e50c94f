"""The paper as pure functions of tensors. Imports torch; knows no model, no file, no text."""
