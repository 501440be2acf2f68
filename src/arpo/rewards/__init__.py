"""Rewards: reading and matching answers, format checks, and the rules that make a reward of them."""
