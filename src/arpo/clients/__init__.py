"""Clients of remote services."""
