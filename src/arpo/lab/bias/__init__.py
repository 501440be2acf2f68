"""How far each estimator of the policy gradient is from the truth, on a decision tree small enough to enumerate."""
