"""Reads pages of the web: checks addresses, fetches pages, extracts their text and finds parts of it."""
