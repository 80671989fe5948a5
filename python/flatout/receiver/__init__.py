"""Receivers and senders of one-way records."""
