"""Proof by properties that graders tell meanings apart: rewritten answers are right, changed ones are wrong."""
