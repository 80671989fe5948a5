"""The kernel's settings for an aim: checked, applied with a journal, undone."""
