"""demonstrate"""
