"""Research instruments: studies, the bias of estimators, benchmarks. The core never imports them."""
