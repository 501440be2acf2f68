"""Demonstrations: a scripted, imperfect demonstrator run through the real agent loop."""
