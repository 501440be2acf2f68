"""What a unit, a percent sign or a base counts that only one of answer and reference names."""

from typing import Literal

GradingPolicy = Literal["strict", "lenient"]
"""`strict`: it counts, the two are different. `lenient`: a unit does not count; a percent sign or a base may be left out where
the reference alone names it. The table is in docs/rewards.md."""

DEFAULT_POLICY: GradingPolicy = "lenient"
