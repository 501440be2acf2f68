"""Studies: several algorithms side by side, one table and one figure each."""
